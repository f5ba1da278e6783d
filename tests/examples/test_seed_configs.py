"""The two examples the project began with: their model blocks word for word, and the whole way with them.

CL4SRec runs on made data of the Taobao kind, Wide & Deep on a made log in the files of MovieLens 100K.
"""

import json
import re
from itertools import accumulate
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from intarsia.data.taobao.columns import COLUMNS
from intarsia.data.taobao.generate import generate
from intarsia.recommender.fit import run
from intarsia.recommender.pipeline import load_pipeline
from intarsia.recommender.predict import predict_files
from intarsia.recommender.recommender import Recommender

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
FIXTURES = Path(__file__).parent / "fixtures"
PAGES = ROOT.parent / "shared" / "seeds"
"""The pages that the two blocks were published on, where somebody keeps them beside the checkout."""

CL4SREC = EXAMPLES / "cl4srec_on_taobao.config"
WIDE_AND_DEEP = EXAMPLES / "wide_and_deep_on_movielens.config"
BOTH = [(CL4SREC, "cl4srec_model_config.txt"), (WIDE_AND_DEEP, "wide_and_deep_model_config.txt")]


def tokens(text):
    """Words, texts in quotes, and signs, without comments."""
    return [
        token
        for token in re.findall(r"""#[^\n]*|"[^"]*"|'[^']*'|[^\s{}\[\],:'"#]+|[{}\[\],:]""", text)
        if token[0] != "#"
    ]


def model_block(text):
    """The tokens from `model_config` to the brace that closes it."""
    found = tokens(text)
    block = found[found.index("model_config") :]
    depth = list(accumulate((token == "{") - (token == "}") for token in block))
    end = next(n for n, value in enumerate(depth) if value == 0 and block[n] == "}")
    return block[: end + 1]


# The files


@pytest.mark.parametrize(("path", "fixture"), BOTH)
def test_model_block_is_the_published_one(path, fixture):
    block = model_block(path.read_text())
    assert block == tokens((FIXTURES / fixture).read_text())
    assert len(block) > 150


@pytest.mark.parametrize("fixture", [fixture for _, fixture in BOTH])
def test_fixtures_are_the_published_pages(fixture):
    if not PAGES.is_dir():
        pytest.skip("the published pages are not kept beside this checkout")
    name = re.search("model_name: *['\"](.*)['\"]", (FIXTURES / fixture).read_text())[1]
    pages = [page.read_text() for page in sorted(PAGES.glob("*.txt"))]
    blocks = [model_block(page) for page in pages if re.search(f"model_name: *['\"]{name}['\"]", page)]
    assert tokens((FIXTURES / fixture).read_text()) in blocks


def test_the_comparison_sees_a_changed_token():
    text = CL4SREC.read_text()
    assert model_block(text.replace("temperature", "heat")) != model_block(text)
    assert model_block(text.replace("number_value: 0.15", "number_value: 0.16")) != model_block(text)
    assert model_block("a: {}\nmodel_config: { b: 'x {' # }\n}\nc {}") == tokens("model_config: { b: 'x {' }")


def test_the_files_load_without_complaint():
    for path, notices in ((CL4SREC, 2), (WIDE_AND_DEEP, 0)):
        loaded = load_pipeline(path)
        assert len(loaded.notices) == notices, loaded.notices


def test_columns_of_cl4srec_are_those_of_the_data():
    data = load_pipeline(CL4SREC).config.data_config
    assert tuple(field.input_name for field in data.input_fields) == COLUMNS


# CL4SRec


@pytest.fixture(scope="module")
def taobao(tmp_path_factory):
    """A few thousand rows."""
    return generate(tmp_path_factory.mktemp("taobao"), num_users=200, num_rows=3000, mean_history=4)


def train_cl4srec(made, folder, *overrides):
    files = [
        f"train_input_path={made.train}",
        f"eval_input_path={made.test}",
        f"data_config.cache_dir={folder / 'cache'}",
    ]
    loaded = load_pipeline(CL4SREC, [*files, "train_config.device=cpu", *overrides])
    return run(loaded, run_dir=folder / "run")


def steps_of(folder):
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "train"]


@pytest.fixture(scope="module")
def small(taobao, tmp_path_factory):
    """A short training of a model with all its parts."""
    folder = tmp_path_factory.mktemp("cl4srec")
    short = ("data_config.batch_size=256", "train_config.num_epochs=2", "train_config.log_step_count_steps=2")
    return train_cl4srec(taobao, folder, *short), folder


def test_both_losses_of_cl4srec_fall(small):
    fitted, folder = small
    steps = steps_of(folder)
    assert fitted.rows["train"] > 2500
    assert fitted.result.steps == 2 * -(-fitted.rows["train"] // 256)
    contrast = [step["contrastive_nce_loss"] for step in steps]
    assert contrast[-1] < 0.5 * contrast[0]
    assert min(step["cross_entropy_loss"] for step in steps[-3:]) < steps[0]["cross_entropy_loss"]
    assert steps[-1]["loss"] == pytest.approx(contrast[-1] + steps[-1]["cross_entropy_loss"], rel=1e-5)


def test_cl4srec_shares_tables_of_categories_and_brands(small):
    model = small[0].recommender.model
    rows = sum(p.shape[0] for n, p in model.named_parameters() if "embedder" in n)
    hashed = {
        "pid": 10,
        "adgroup_id": 100_000,
        "campaign_id": 100_000,
        "customer": 100_000,
        "price": 50,
        "user_id": 100_000,
    }
    hashed |= {"cms_segid": 100, "cms_group_id": 100, "levels": 5 * 10, "cate_id": 10_000, "brand": 100_000}
    # One row more for each table at most: 14 tables, and none of them a second time for the lists.
    assert sum(hashed.values()) <= rows <= sum(hashed.values()) + 20


def test_a_saved_cl4srec_gives_the_same_numbers(small, taobao, tmp_path):
    fitted, folder = small
    loaded = Recommender.load(folder / "run")
    measured = loaded.evaluate(str(taobao.test))
    assert measured.num_rows == taobao.rows["test"]
    assert measured.values["auc"].value == fitted.evaluations["valid"].values["auc"].value
    assert loaded.evaluate().values["auc"].value == measured.values["auc"].value

    report = predict_files(folder / "run", str(taobao.test), tmp_path / "scores.parquet", keep=["clk", "user_id"])
    written = pl.read_parquet(tmp_path / "scores.parquet")
    assert report["rows"] == written.height == taobao.rows["test"]
    assert written["user_id"].cast(pl.String).to_list() == column_of(taobao.test, "user_id")
    assert roc_auc_score(written["clk"], written["probs"]) == pytest.approx(measured.values["auc"].value, abs=1e-9)
    torch.testing.assert_close(torch.sigmoid(written["logits"].to_torch()), written["probs"].to_torch())

    frame = pl.read_csv(taobao.test, has_header=False, new_columns=list(COLUMNS), infer_schema=False)
    frame = frame.with_columns(pl.col("price").cast(pl.Int32)).drop("clk", "buy")
    for recommender in (fitted.recommender, loaded):
        np.testing.assert_allclose(recommender.score(frame, batch_size=97)["logits"], written["logits"], atol=1e-5)


def column_of(path, name):
    return pl.read_csv(path, has_header=False, new_columns=list(COLUMNS), infer_schema=False)[name].to_list()


def test_predictions_of_cl4srec_depend_on_the_order_of_the_history(small, taobao):
    frame = pl.read_csv(taobao.test, has_header=False, new_columns=list(COLUMNS), infer_schema=False)
    frame = frame.filter(pl.col("tag_category_list").str.count_matches(r"\|") >= 3)
    turned = pl.col("tag_category_list", "tag_brand_list").str.split("|").list.reverse().list.join("|")
    frame = frame.with_columns(pl.col("price").cast(pl.Int32)).drop("clk", "buy")
    recommender = small[0].recommender
    difference = recommender.score(frame)["logits"] - recommender.score(frame.with_columns(turned))["logits"]
    assert difference.abs().median() > 1e-3


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_cl4srec_beats_a_logistic_regression(tmp_path):
    """The example as it is, on made data of its full size."""
    made = generate(tmp_path)
    fitted = train_cl4srec(made, tmp_path)
    contrast = [step["contrastive_nce_loss"] for step in steps_of(tmp_path)]
    assert np.mean(contrast[-3:]) < 0.5 * np.mean(contrast[:2])
    reached = fitted.evaluations["valid"].values["auc"].value
    assert reached > logistic_auc(made) + 0.05
    assert reached > made.bayes_auc - 0.06
    assert reached < made.bayes_auc + 0.01


def logistic_auc(made):
    """AUC on the test rows of a logistic regression on all values of a row, history tags included."""
    texts, labels = [], []
    for path in (made.train, made.test):
        frame = pl.read_csv(path, has_header=False, new_columns=list(COLUMNS), infer_schema=False).fill_null("")
        named = [
            pl.col(name).str.split("|").list.eval(name + "=" + pl.element()).list.join(" ") for name in COLUMNS[2:]
        ]
        texts.append(frame.select(pl.concat_str(named, separator=" ")).to_series().to_list())
        labels.append(frame["clk"].cast(pl.Int8).to_numpy())
    words = CountVectorizer(token_pattern=r"\S+", lowercase=False)
    x, z = words.fit_transform(texts[0]), words.transform(texts[1])
    best = 0.0
    for strength in (0.003, 0.03, 0.3):
        model = LogisticRegression(C=strength, max_iter=200, tol=1e-3).fit(x, labels[0])
        best = max(best, roc_auc_score(labels[1], model.decision_function(z)))
    return best


# Wide & Deep


@pytest.fixture(scope="module")
def movies(tmp_path_factory):
    """A small log in the publisher's files: people like the films of their genre."""
    folder = tmp_path_factory.mktemp("ml-100k")
    rng = np.random.default_rng(5)
    users, items, count = 60, 80, 3000
    taste, genre = rng.integers(2, size=users), rng.integers(2, size=items)
    user, item = rng.integers(users, size=count), rng.integers(items, size=count)
    rating = np.where(rng.random(count) < 0.9, np.where(taste[user] == genre[item], 5, 2), 3)
    time = 874_000_000 + np.sort(rng.integers(10**6, size=count))
    log = pl.DataFrame({"user": user + 1, "item": item + 1, "rating": rating, "time": time})
    log.write_csv(folder / "u.data", separator="\t", include_header=False)
    jobs, genders = np.array(["artist", "doctor"]), np.array(["M", "F"])
    pl.DataFrame(
        {
            "id": np.arange(users) + 1,
            "age": rng.integers(10, 70, size=users),
            "gender": genders[rng.integers(2, size=users)],
            "job": jobs[taste],
            "zip": ["12345"] * users,
        }
    ).write_csv(folder / "u.user", separator="|", include_header=False)
    year = rng.integers(1950, 1998, size=items)
    flags = {f"g{n}": (np.where(genre == 0, 1, 2) == n).astype(int) for n in range(19)}
    pl.DataFrame(
        {
            "id": np.arange(items) + 1,
            "title": [f"Film {n} ({y})" for n, y in enumerate(year, 1)],
            "release": [f"01-Jan-{y}" for y in year],
            "video": "",
            "url": "",
            **flags,
        }
    ).write_csv(folder / "u.item", separator="|", include_header=False)
    return folder


def test_wide_and_deep_goes_the_whole_way(movies, tmp_path):
    short = ["data_config.batch_size=64", "train_config.num_epochs=3", "train_config.log_step_count_steps=5"]
    loaded = load_pipeline(WIDE_AND_DEEP, [f"data_config.dataset=ml-100k:{movies}", "train_config.device=cpu", *short])
    fitted = run(loaded, run_dir=tmp_path / "run")
    assert fitted.rows == {"train": 2400, "valid": 300, "test": 300}
    steps = steps_of(tmp_path)
    assert {"cross_entropy_loss", "embedding_regularization", "l2_regularization"} <= set(steps[0])
    assert steps[-1]["cross_entropy_loss"] < 0.8 * steps[0]["cross_entropy_loss"]
    values = {name: value.value for name, value in fitted.evaluations["test"].values.items()}
    assert set(values) == {"auc", "gauc", "max_f1"}
    # Jobs and genres tell nine ratings of ten.
    assert values["auc"] > 0.85

    again = Recommender.load(tmp_path / "run")
    assert {name: value.value for name, value in again.evaluate().values.items()} == values
    for asked in ({"users": [1, 2]}, {"history": [[3, 4], [5]]}):
        mine, theirs = fitted.recommender.recommend(**asked, k=5), again.recommend(**asked, k=5)
        assert mine.drop("score").equals(theirs.drop("score"))
        assert mine.height == 10
        assert mine["title"].str.starts_with("Film").all()
