"""Bad data, from the file to the message: it names file, line, column and value, and nothing that was there is lost."""

import gzip
import logging
import re

import polars as pl
import pytest
import small_job

import intarsia
from intarsia.cli.main import run as command
from intarsia.core.errors import ConfigError, DataError
from intarsia.recommender.recommender import Recommender

LINES = small_job.lines_of(small_job.table(60))


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The folder of a good run, which no failure may touch."""
    folder = tmp_path_factory.mktemp("earlier")
    path = small_job.write_lines(folder / "train.csv", LINES)
    small_job.train(small_job.pipeline(path, path), folder / "run")
    return folder / "run"


@pytest.fixture
def refused(earlier, tmp_path):
    """Runs a pipeline over the earlier run, expects an error, and gives its text."""

    def refuse(job, *, error=DataError, overrides=(), **options):
        before = small_job.snapshot(earlier)
        with pytest.raises(error) as found:
            small_job.train(job, earlier, overrides, overwrite=True, **options)
        assert small_job.snapshot(earlier) == before
        with pytest.raises(error) as again:
            small_job.train(job, tmp_path / "new", overrides, **options)
        assert not (tmp_path / "new").exists()
        assert str(again.value) == str(found.value)
        return str(found.value)

    return refuse


def written(folder, lines):
    return small_job.write_lines(folder / "bad.csv", lines)


# Files


def test_missing_file(tmp_path, refused):
    written(tmp_path, LINES)
    text = refused(small_job.pipeline(tmp_path / "bed.csv"))
    assert f"File `{tmp_path / 'bed.csv'}` does not exist in folder `{tmp_path}`. Near names there: bad.csv" in text


def test_missing_evaluation_file_is_noticed_before_training(tmp_path, refused):
    path = written(tmp_path, LINES)
    assert "does not exist" in refused(small_job.pipeline(path, tmp_path / "bed.csv"))


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_empty_file(tmp_path, refused, content):
    path = tmp_path / "bad.csv"
    path.write_text(content)
    assert refused(small_job.pipeline(path)) == f"{path}: the file must hold rows. It is empty."


def test_header_only(tmp_path, refused):
    path = written(tmp_path, LINES[:1])
    text = refused(small_job.pipeline(path))
    assert f"{path}: the file must hold rows. It holds only a header: 'clk, user, item, tags, seen, price'" in text


def test_truncated_gzip(tmp_path, refused):
    path = tmp_path / "bad.csv.gz"
    path.write_bytes(gzip.compress("\n".join(LINES).encode())[:-40])
    text = refused(small_job.pipeline(path))
    assert text == f"{path}: the gzip file is cut off before its end. Copy or download it again."


@pytest.mark.parametrize("streaming", [True, False])
def test_truncated_parquet(tmp_path, refused, streaming):
    path = tmp_path / "bad.parquet"
    small_job.table().write_parquet(path)
    path.write_bytes(path.read_bytes()[:-100])
    text = refused(small_job.pipeline(path, data={"input_type": "ParquetInput", "streaming": streaming}))
    assert f"{path}: the file must be Parquet. It is cut off or damaged: its footer cannot be read" in text


@pytest.mark.parametrize("streaming", [True, False])
def test_damaged_row_group(tmp_path, refused, streaming):
    path = tmp_path / "bad.parquet"
    small_job.table(300).write_parquet(path, row_group_size=100, compression="zstd")
    content = bytearray(path.read_bytes())
    start = len(content) // 3
    content[start : start + 400] = b"\xff" * 400
    path.write_bytes(content)
    job = small_job.pipeline(path, data={"input_type": "ParquetInput", "streaming": streaming})
    assert re.search(
        rf"{re.escape(str(path))}: row group [01] of 3 must be readable. It is damaged or cut off", refused(job)
    )


def test_unreadable_bytes(tmp_path, refused):
    path = tmp_path / "bad.csv"
    lines = [line.encode() for line in LINES]
    lines[4] = b"1,M\xfcller,3,t0,i1,0.5"
    path.write_bytes(b"\n".join(lines))
    text = refused(small_job.pipeline(path))
    assert f"{path}, line 5: text must be UTF-8. The line holds other bytes" in text
    assert r"1,M\\xfcller,3,t0,i1,0.5" in text


def test_vocabulary_file_missing(tmp_path, refused):
    path = written(tmp_path, LINES)
    job = small_job.pipeline(path)
    job["feature_config"]["features"][0] = {
        "input_names": ["user"],
        "vocab_file": str(tmp_path / "users.txt"),
        "embedding_dim": 4,
    }
    text = refused(job)
    assert "A vocab_file must be a readable UTF-8 text with one value a line." in text
    assert f"Received {tmp_path / 'users.txt'}" in text
    assert "No such file" in text


# Columns and lines


def test_missing_column_with_the_nearest_name(tmp_path, refused):
    path = written(tmp_path, [LINES[0].replace("price", "prices"), *LINES[1:]])
    text = refused(small_job.pipeline(path))
    assert text == (
        f"{path}: column `price` (near: `prices`) must exist. The columns are: clk, user, item, tags, seen, prices."
    )


@pytest.mark.parametrize(("separator", "shown"), [(";", "';'"), ("\t", r"'\t'")])
def test_other_separator(tmp_path, refused, separator, shown):
    path = written(tmp_path, [line.replace(",", separator) for line in LINES])
    text = refused(small_job.pipeline(path))
    assert LINES[0].replace(",", separator) in text
    assert f"The lines seem to be separated by {shown}: set data_config.separator." in text


def test_other_separator_without_header(tmp_path, refused):
    path = written(tmp_path, [line.replace(",", ";") for line in LINES[1:]])
    text = refused(small_job.pipeline(path, data={"with_header": False}))
    assert f"{path}, line 1: a row must have 6 cells, as data_config.input_fields says. Received: 1." in text
    assert "The lines seem to be separated by ';': set data_config.separator." in text
    assert repr(LINES[1].replace(",", ";")) in text


def test_too_few_cells(tmp_path, refused):
    path = written(tmp_path, [*LINES[:8], "1,u1,3", *LINES[8:]])
    text = refused(small_job.pipeline(path))
    assert f"{path}, line 9: a row must have 6 cells, as the header says. Received: 3. The line reads: '1,u1,3'" in text
    assert "seem to be separated" not in text


def test_wrong_type(tmp_path, refused):
    lines = small_job.with_cell(LINES, 9, "item", "twelve")
    path = written(tmp_path, lines)
    text = refused(small_job.pipeline(path))
    assert f"{path}, line 9, column `item`: INT64 must be a whole number" in text
    assert f"Received: 'twelve'. The line reads: {lines[8]!r}" in text
    assert "set data_config.on_bad_rows: skip" in text


@pytest.mark.parametrize("value", ["NaN", "inf", "-inf", "1e999"])
def test_number_that_is_none_in_a_raw_feature(tmp_path, refused, value):
    path = written(tmp_path, small_job.with_cell(LINES, 12, "price", value))
    text = refused(small_job.pipeline(path))
    assert f"{path}, line 12, column `price`: DOUBLE must be a finite number. Received: {value!r}." in text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("streaming", [True, False])
def test_number_that_is_none_in_parquet(tmp_path, refused, value, streaming):
    path = tmp_path / "bad.parquet"
    frame = small_job.table(60)
    frame[44, "price"] = value
    frame.write_parquet(path, row_group_size=20)
    text = refused(small_job.pipeline(path, data={"input_type": "ParquetInput", "streaming": streaming}))
    assert f"{path}, row 45, column `price`: DOUBLE must be a finite number. Received: {value!r}." in text


def test_number_beyond_32_bits(tmp_path, refused):
    path = written(tmp_path, small_job.with_cell(LINES, 7, "price", "-1e39"))
    text = refused(small_job.pipeline(path))
    assert f"{path}, line 7: feature `price`: a number must fit into 32 bits, which end at 3.4e38" in text
    assert "Received: -1e+39" in text


@pytest.mark.parametrize("value", ["12", "-2"])
def test_id_beyond_the_buckets(tmp_path, refused, value):
    path = written(tmp_path, small_job.with_cell(LINES, 9, "item", value))
    text = refused(small_job.pipeline(path))
    assert f"{path}, line 9: feature `item`: an id must lie in 0 <= id < num_buckets = 12" in text
    assert f"Received: {value}." in text


def test_id_beyond_the_buckets_of_a_stream(tmp_path, refused):
    path = tmp_path / "bad.parquet"
    frame = small_job.table(60)
    frame[44, "item"] = 12
    frame.write_parquet(path, row_group_size=20)
    text = refused(small_job.pipeline(path, data={"input_type": "ParquetInput"}))
    assert f"{path}, row 45: feature `item`: an id must lie in 0 <= id < num_buckets = 12" in text


# Labels


@pytest.mark.parametrize("value", ["2", "-1"])
def test_label_out_of_range(tmp_path, refused, value):
    path = written(tmp_path, small_job.with_cell(LINES, 6, "clk", value))
    text = refused(small_job.pipeline(path))
    assert "Label or weight `clk`: CLASSIFICATION needs labels from 0 to 1. Received in 1 row:" in text
    assert f"{path}, line 6, column `clk`: {value}.0" in text


def test_label_out_of_the_classes(tmp_path, refused):
    path = written(tmp_path, small_job.with_cell(LINES, 6, "clk", "3"))
    job = small_job.pipeline(path, eval_config={"metrics_set": ["accuracy"]})
    text = refused(job, overrides=["model_config.num_class=3"])
    assert "CLASSIFICATION with num_class 3 needs whole numbers from 0 to 2" in text
    assert f"{path}, line 6, column `clk`: 3.0" in text


def test_label_absent(tmp_path, refused):
    path = written(tmp_path, small_job.with_cell(LINES, 6, "clk", ""))
    text = refused(small_job.pipeline(path))
    assert "Label or weight `clk`: every row must have a label. It is empty. Received in 1 row:" in text
    assert f"{path}, line 6, column `clk`" in text


def test_label_column_absent(tmp_path, refused):
    frame = small_job.table(60).rename({"clk": "click"})
    path = tmp_path / "bad.parquet"
    frame.write_parquet(path)
    text = refused(small_job.pipeline(path, data={"input_type": "ParquetInput"}))
    assert f"{path}: column `clk` (near: `click`) must exist." in text


def test_bad_rows_of_the_evaluation_part(tmp_path, refused):
    good = small_job.write_lines(tmp_path / "good.csv", LINES)
    path = written(tmp_path, small_job.with_cell(LINES, 6, "clk", "7"))
    assert f"{path}, line 6, column `clk`: 7.0" in refused(small_job.pipeline(good, path))


# Rows in memory


def test_data_frames(refused):
    frame = small_job.table(60)
    job = small_job.pipeline(None)
    text = refused(job, frames={"train": frame.drop("price").with_columns(prise=1.0)})
    assert "the data frame: column `price` (near: `prise`) must exist." in text
    bad = frame.with_columns(price=pl.when(pl.int_range(60) == 7).then(float("inf")).otherwise("price"))
    assert "row 8, column `price`: DOUBLE must be a finite number. Received: inf." in refused(
        job, frames={"train": bad}
    )
    bad = frame.with_columns(item=pl.when(pl.int_range(60) == 7).then(99).otherwise("item"))
    assert "row 8: feature `item`: an id must lie in 0 <= id < num_buckets = 12" in refused(job, frames={"train": bad})


def test_missing_values_of_a_data_frame_are_empty_cells(tmp_path):
    frame = small_job.table(60).with_columns(
        price=pl.when(pl.int_range(60) < 5).then(None).otherwise("price"),
        user=pl.when(pl.int_range(60) < 5).then(None).otherwise("user"),
    )
    rec = intarsia.fit(small_job.pipeline(None), frame, run_dir=tmp_path / "run")
    assert rec.score(frame)["probs"].is_finite().all()


# Skipping


def test_bad_rows_are_skipped_counted_and_reported(tmp_path, caplog):
    lines = small_job.with_cell(LINES, 7, "item", "twelve")
    lines = small_job.with_cell(lines, 20, "clk", "")
    lines = small_job.with_cell(lines, 30, "item", "12")
    path = written(tmp_path, [*lines, "garbage"])
    with caplog.at_level(logging.WARNING, logger="intarsia"):
        fitted = small_job.train(small_job.pipeline(path, data={"on_bad_rows": "skip"}), tmp_path / "run")
    assert fitted.rows == {"train": 58}
    assert fitted.result.steps == 2 * 4
    told = caplog.text
    assert f"{path}, line 7, column `item`: INT64 must be a whole number" in told
    assert (
        f"{path}, line 62: a row must have 6 cells, as the header says. Received: 1. The line reads: 'garbage'" in told
    )
    assert f"{path}, line 20, column `clk`: every row must have a label. Received: None." in told
    assert "Left out 3 of 61 rows" in told
    assert "1 values of 58 rows: feature `item`: an id must lie in 0 <= id < num_buckets = 12" in told
    assert "it then counts as row 0" in told


def test_only_bad_rows(tmp_path, refused):
    path = written(tmp_path, [LINES[0], "garbage", "more,garbage"])
    text = refused(small_job.pipeline(path, data={"on_bad_rows": "skip"}))
    assert "At least one row must be readable; all 2 are bad" in text
    assert f"{path}, line 2" in text


# Data that are unusual and right


@pytest.mark.parametrize("rows", [17, 33])
def test_empty_sequences_and_a_last_batch_of_one_row(tmp_path, rows):
    frame = small_job.table(rows).with_columns(tags=pl.lit(""), seen=pl.lit(""))
    path = small_job.write_csv(tmp_path / "train.csv", frame)
    fitted = small_job.train(small_job.pipeline(path, path), tmp_path / "run")
    assert all(0 < value < 10 for value in small_job.losses(tmp_path / "run").values())
    assert fitted.evaluations["valid"].values["logloss"].value > 0
    assert fitted.recommender.score(frame)["probs"].is_finite().all()


def test_parquet_with_lists_equals_text(tmp_path):
    text = small_job.write_csv(tmp_path / "train.csv", small_job.table(120))
    small_job.train(small_job.pipeline(text, text), tmp_path / "text")
    lists = tmp_path / "train.parquet"
    small_job.table(120, lists=True).write_parquet(lists)
    small_job.train(small_job.pipeline(lists, lists, data={"input_type": "ParquetInput"}), tmp_path / "lists")
    assert small_job.outcome(tmp_path / "lists") == small_job.outcome(tmp_path / "text")


def test_evaluation_with_one_class(tmp_path, caplog):
    path = small_job.write_csv(tmp_path / "train.csv", small_job.table(60))
    one = small_job.write_csv(tmp_path / "one.csv", small_job.table(30).with_columns(clk=pl.lit(1.0)))
    job = small_job.pipeline(
        path, one, train_config={"num_epochs": 5, "eval_steps": 2, "early_stop": {"metric": "auc", "patience": 3}}
    )
    with caplog.at_level(logging.WARNING, logger="intarsia"):
        fitted = small_job.train(job, tmp_path / "run")
    auc = fitted.evaluations["valid"].values["auc"]
    assert auc.value is None
    assert auc.note == "undefined: 30 positive and 0 negative rows"
    assert fitted.result.stopped_because == "early_stop"
    assert fitted.result.steps == 6
    assert caplog.text.count("train_config.early_stop follows auc, which is undefined: 30 positive and 0 negative") == 1
    assert "training stops after 3 such evaluations (patience)" in caplog.text
    assert small_job.outcome(tmp_path / "run")[1]["valid"]["auc"] is None
    assert Recommender.load(tmp_path / "run").evaluate(str(one)).values["auc"].value is None


# Folders of runs


def test_folder_of_another_run(tmp_path, earlier):
    before = small_job.snapshot(earlier)
    path = written(tmp_path, LINES)
    with pytest.raises(ConfigError) as found:
        small_job.train(small_job.pipeline(path), earlier)
    assert f"the run folder {earlier} holds checkpoints of another run." in str(found.value)
    assert "Go on with --resume, start anew with --overwrite, or choose another folder" in str(found.value)
    assert small_job.snapshot(earlier) == before


def test_folder_with_another_bundle_only(tmp_path):
    path = written(tmp_path, LINES)
    fitted = small_job.train(small_job.pipeline(path), tmp_path / "first")
    fitted.recommender.save(tmp_path / "run" / "bundle")
    before = small_job.snapshot(tmp_path / "run")
    with pytest.raises(ConfigError, match="holds the bundle of another run"):
        small_job.train(small_job.pipeline(path), tmp_path / "run")
    assert small_job.snapshot(tmp_path / "run") == before


def test_overwriting_leaves_nothing_of_the_other_run(tmp_path):
    path = written(tmp_path, LINES)
    small_job.train(small_job.pipeline(path, path), tmp_path / "run")
    short = small_job.pipeline(path, train_config={"num_epochs": 1, "seed": 5})
    small_job.train(short, tmp_path / "run", overwrite=True)
    small_job.train(short, tmp_path / "other")
    assert small_job.outcome(tmp_path / "run") == small_job.outcome(tmp_path / "other")
    assert small_job.snapshot(tmp_path / "run").keys() == small_job.snapshot(tmp_path / "other").keys()


# Bundles meet bad rows, too


def test_bad_rows_for_a_bundle(tmp_path, earlier):
    rec = Recommender.load(earlier)
    frame = small_job.table(20)
    with pytest.raises(DataError, match=r"column `user` \(near: `usr`\) must exist"):
        rec.score(frame.rename({"user": "usr"}))
    with pytest.raises(DataError, match=r"row 4, column `price`: DOUBLE must be a finite number. Received: nan"):
        rec.score(frame.with_columns(price=pl.when(pl.int_range(20) == 3).then(float("nan")).otherwise("price")))
    path = written(tmp_path, small_job.with_cell(LINES, 9, "item", "77"))
    with pytest.raises(DataError, match=r"bad\.csv, line 9: feature `item`: an id must lie in .*Received: 77"):
        rec.evaluate(str(path))
    path = written(tmp_path, small_job.with_cell(LINES, 9, "clk", "7"))
    with pytest.raises(DataError, match=r"bad\.csv, line 9, column `clk`: 7\.0"):
        rec.evaluate(str(path))
    assert rec.score(frame.with_columns(user=pl.lit("nobody")))["probs"].is_finite().all()


# The command line


def test_command_line_tells_and_exits(tmp_path, earlier, capsys):
    path = written(tmp_path, small_job.with_cell(LINES, 9, "item", "twelve"))
    config = small_job.write_pipeline(tmp_path / "job.yaml", small_job.pipeline(path))
    before = small_job.snapshot(earlier)
    assert command(["train", str(config), "--run-dir", str(earlier), "--overwrite"]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"error: {path}, line 9, column `item`: INT64 must be a whole number")
    assert "Traceback" not in told.err
    assert command(["train", str(config), "--run-dir", str(earlier)]) == 2
    assert "Go on with --resume, start anew with --overwrite" in capsys.readouterr().err
    assert command(["evaluate", str(earlier), str(path)]) == 3
    assert f"{path}, line 9, column `item`" in capsys.readouterr().err
    assert small_job.snapshot(earlier) == before
