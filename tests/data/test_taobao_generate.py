"""Made data of the Taobao kind: shape, repeatability, and what is and is not planted."""

import itertools
import json
import re

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from intarsia.core.errors import DataError
from intarsia.data.taobao.__main__ import main
from intarsia.data.taobao.columns import COLUMNS
from intarsia.data.taobao.generate import area_under_curve, generate

ROWS = 40_000


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("taobao"), num_users=1500, num_rows=ROWS)


@pytest.fixture(scope="module")
def frames(made):
    return read(made.train), read(made.test)


@pytest.fixture(scope="module")
def truth(made):
    return json.loads(made.truth.read_text())


def read(path):
    frame = pl.read_csv(path, has_header=False, new_columns=list(COLUMNS), infer_schema=False)
    lists = pl.col("tag_category_list", "tag_brand_list").fill_null("").str.split("|")
    return frame.with_columns(lists.list.eval(pl.element().filter(pl.element() != "")), pl.col("clk").cast(pl.Int8))


def clusters_of(frame, truth):
    """Cluster of the ad (N,), and of the first 50 steps of the history (N, 50), -1 past its end."""
    known = truth["category_clusters"]
    ad = frame["cate_id"].replace_strict(known, return_dtype=pl.Int64).to_numpy()
    steps = frame.select(pl.col("tag_category_list").list.get(n, null_on_oob=True).alias(str(n)) for n in range(50))
    steps = steps.select(pl.all().replace_strict(known, default=-1, return_dtype=pl.Int64))
    return ad, steps.to_numpy()


def test_rows_and_columns(made, frames):
    train, test = frames
    assert made.rows == {"train": train.height, "test": test.height}
    assert train.height + test.height == ROWS
    assert test.height / ROWS == pytest.approx(1 / 8, abs=0.01)
    both = pl.concat(frames)
    assert made.click_rate == pytest.approx(both["clk"].mean())
    assert set(both["buy"].unique()) == {"0", "1"}
    assert both.filter(pl.col("buy") == "1")["clk"].min() == 1
    length = both["tag_category_list"].list.len()
    assert (length == both["tag_brand_list"].list.len()).all()
    assert length.min() == 0
    assert length.max() <= 50
    price = both["price"].cast(pl.Int64)
    assert price.is_between(0, 49).all()
    assert both["user_id"].n_unique() == 1500
    # An ad, a campaign and a customer each belong to one category; a person has one profile.
    for column in ("adgroup_id", "campaign_id", "customer", "brand"):
        assert (both.group_by(column).agg(pl.col("cate_id").n_unique())["cate_id"] == 1).all()
    assert both.select("user_id", *COLUMNS[9:17]).unique().height == 1500


def test_same_arguments_same_files(made, tmp_path):
    again = generate(tmp_path / "a", num_users=1500, num_rows=ROWS)
    other = generate(tmp_path / "b", num_users=1500, num_rows=ROWS, seed=18)
    for name in ("train.csv", "test.csv", "truth.json"):
        assert (tmp_path / "a" / name).read_bytes() == (made.train.parent / name).read_bytes()
        assert (tmp_path / "b" / name).read_bytes() != (made.train.parent / name).read_bytes()
    assert again.bayes_auc == made.bayes_auc != other.bayes_auc


def test_histories_of_a_person_only_grow_at_the_recent_end(frames):
    rows = pl.concat(frames).select("user_id", "tag_category_list").with_row_index()
    one = rows.filter(pl.col("user_id") == rows["user_id"].mode().sort()[0])["tag_category_list"].to_list()
    assert len({len(history) for history in one}) > 1
    for earlier, later in itertools.pairwise(one):
        news = len(later) - len(earlier)
        assert news >= 0
        if len(later) < 50:
            assert later[news:] == earlier


def test_long_histories_are_cut_at_fifty_steps(tmp_path):
    train = read(generate(tmp_path, num_users=50, num_rows=1000, mean_history=60).train)
    assert train["tag_category_list"].list.len().max() == 50
    assert train["tag_brand_list"].list.len().max() == 50


def test_truth_is_a_bound_that_can_nearly_be_reached(made, frames, truth):
    assert truth["bayes_auc"] == pytest.approx(made.bayes_auc, abs=1e-6)
    assert 0.88 < made.bayes_auc < 0.94
    test = frames[1]
    ad, steps = clusters_of(test, truth)
    weighted = ((steps == ad[:, None]) * 0.7 ** np.arange(50)).sum(1)
    reached = roc_auc_score(test["clk"], weighted)
    assert made.bayes_auc - 0.06 < reached < made.bayes_auc


def test_recent_steps_matter_more(frames, truth):
    test = frames[1].filter(pl.col("tag_category_list").list.len() >= 12)
    ad, steps = clusters_of(test, truth)
    match = steps == ad[:, None]
    auc = [roc_auc_score(test["clk"], match[:, n]) for n in (0, 3, 11)]
    assert auc[0] > auc[1] + 0.01
    assert auc[1] > auc[2] + 0.05
    forwards = roc_auc_score(test["clk"], match @ 0.7 ** np.arange(50))
    backwards = roc_auc_score(test["clk"], match @ 0.7 ** -np.arange(50.0))
    assert forwards > backwards + 0.1


def test_one_weight_a_value_is_weak(frames, truth):
    """A logistic regression on all ids and history tags; with one crossed feature it is strong."""
    train, test = frames
    parts = []
    for column in COLUMNS[2:]:
        known = {}
        parts.append([one_hot(frame[column], known) for frame in (train, test)])
    x, z = (hstack(side).tocsr() for side in zip(*parts, strict=True))
    plain = LogisticRegression(C=0.03, max_iter=200, tol=1e-3).fit(x, train["clk"])
    weak = roc_auc_score(test["clk"], plain.decision_function(z))
    assert 0.5 < weak < 0.62

    def latest(frame):
        ad, steps = clusters_of(frame, truth)
        return csr_matrix((steps[:, :5] == ad[:, None]).mean(1)[:, None])

    crossed = LogisticRegression(C=0.03, max_iter=200, tol=1e-3).fit(hstack([x, latest(train)]).tocsr(), train["clk"])
    assert roc_auc_score(test["clk"], crossed.decision_function(hstack([z, latest(test)]).tocsr())) > weak + 0.2


def one_hot(column, known):
    """Rows of ones for the values of a column; `known` is filled by the first call."""
    cells = pl.DataFrame({"row": np.arange(len(column)), "value": column})
    cells = (cells.explode("value") if column.dtype == pl.List else cells).drop_nulls()
    if not known:
        known.update({value: n for n, value in enumerate(cells["value"].unique().sort())})
    cells = cells.with_columns(pl.col("value").replace_strict(known, default=None, return_dtype=pl.Int64)).drop_nulls()
    where = (cells["row"].to_numpy(), cells["value"].to_numpy())
    return csr_matrix((np.ones(cells.height), where), shape=(len(column), len(known)))


def test_area_under_curve_counts_ties_half():
    assert area_under_curve(np.array([True, True, False, False]), np.array([3.0, 1.0, 2.0, 1.0])) == 0.625
    rng = np.random.default_rng(3)
    label, score = rng.random(500) < 0.3, rng.integers(7, size=500).astype(float)
    assert area_under_curve(label, score) == pytest.approx(roc_auc_score(label, score), abs=1e-12)


def test_too_small_data_are_refused(tmp_path):
    message = re.escape("Received: num_users=3, num_rows=150000, mean_history=8.0. Ask for more.")
    with pytest.raises(DataError, match=message):
        generate(tmp_path, num_users=3)
    with pytest.raises(DataError, match="at least 10 users, 100 rows"):
        generate(tmp_path, num_rows=20)


def test_command_line(tmp_path, capsys):
    assert main(["generate", str(tmp_path), "--num-rows", "500", "--num-users", "50"]) == 0
    said = capsys.readouterr().out
    assert f"{json.loads((tmp_path / 'truth.json').read_text())['bayes_auc']:.4f} on the test rows" in said
    assert main(["generate", str(tmp_path), "--num-rows", "5"]) == 3
    assert "num_rows=5" in capsys.readouterr().err
