"""Labels, weights and grouping ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from intarsia.config.schema.data import DataConfig
from intarsia.core.errors import DataError
from intarsia.data.labels import check_labels, drop_unlabelled, group_ids, label_columns, labels_from, weights_from
from intarsia.data.reading import read_table

TWO = DataConfig(label_fields=["clk", "buy"])


def message(action) -> str:
    with pytest.raises(DataError) as caught:
        action()
    return str(caught.value)


def test_several_labels():
    found = labels_from(pl.DataFrame({"buy": ["0", " 2.5 "], "clk": [1, 0]}), TWO)
    assert list(found) == ["clk", "buy"]
    assert found["clk"].dtype == found["buy"].dtype == np.float32
    assert found["clk"].tolist() == [1.0, 0.0]
    assert found["buy"].tolist() == [0.0, 2.5]
    assert list(labels_from(pl.DataFrame({"buy": [1]}), TWO, ["buy"])) == ["buy"]


def test_several_values_in_a_cell():
    config = DataConfig(label_fields=["v", "clk", "w"], label_sep=["|", ",", ","], label_dim=[2, 1, 3])
    frame = pl.DataFrame({"clk": [1, 0], "v": ["1|2.5", "3|4"], "w": [[1, 2, 3], [4, 5, 6]]})
    found = labels_from(frame, config)
    assert found["v"].tolist() == [[1.0, 2.5], [3.0, 4.0]]
    assert found["w"].tolist() == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    assert found["clk"].shape == (2,)


@pytest.mark.parametrize("cell", ["1", "1|2|3", "1|x", "1|", "1|inf"])
def test_a_wrong_number_of_values(cell):
    config = DataConfig(label_fields=["v"], label_sep=["|"], label_dim=[2])
    text = message(lambda: labels_from(pl.DataFrame({"v": ["1|2", cell]}), config))
    assert "`v`: a label must be 2 finite numbers (label_dim) separated by '|' (label_sep)." in text
    assert text.endswith(f"Received in 1 row:\n  row 2, column `v`: {cell!r}")


def test_a_row_without_a_label_names_file_and_line(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"clk,buy\n1,1\n\n,0\n0,\n")
    result = read_table(path, DataConfig(with_header=True, label_fields=["clk", "buy"]))
    text = message(lambda: labels_from(result.frame, TWO, origin=result.origin))
    assert text == (
        "Label or weight `clk`: every row must have a label. It is empty. Received in 1 row:\n"
        f"  {path}, line 4, column `clk`"
    )
    assert "row 3, column `buy`" in message(lambda: labels_from(result.frame, TWO, ["buy"]))


@pytest.mark.parametrize("value", ["abc", "nan", "inf", "1e39"])
def test_a_label_that_is_no_number(value):
    text = message(lambda: labels_from(pl.DataFrame({"clk": ["1", value], "buy": [1, 1]}), TWO))
    assert text.endswith(
        f"`clk`: a label must be a finite number. Received in 1 row:\n  row 2, column `clk`: {value!r}"
    )


def test_many_bad_rows_are_counted_and_few_are_shown():
    text = message(lambda: labels_from(pl.DataFrame({"clk": ["x"] * 100, "buy": [1] * 100}), TWO))
    assert "Received in 100 rows, first:" in text
    assert text.count("\n  row ") == 5


def test_unknown_labels():
    assert "column `clk` named by data_config.label_fields must exist. The columns are: buy." in message(
        lambda: labels_from(pl.DataFrame({"buy": [1]}), TWO)
    )
    assert "column `byu` (near: `buy`) named by the model must exist." in message(
        lambda: labels_from(pl.DataFrame({"buy": [1]}), TWO, ["byu"])
    )


def test_computed_labels():
    config = DataConfig(
        label_fields=["clk", "buy"],
        extra_label_func=[
            {"label_name": "both", "label_func": "clk * buy"},
            {"label_name": "more", "label_func": "both + 1"},
        ],
    )
    frame = pl.DataFrame({"clk": [1, 1, 0], "buy": [1, 0, 0]})
    found = labels_from(frame, config)
    assert list(found) == ["clk", "buy", "both", "more"]
    assert found["both"].tolist() == [1.0, 0.0, 0.0]
    assert found["more"].tolist() == [2.0, 1.0, 1.0]
    assert found["more"].dtype == np.float32
    assert list(labels_from(frame, config, ["more"])) == ["more"]
    assert label_columns(config, ["more"]) == ["clk", "buy"]
    assert label_columns(config, ["buy"]) == ["buy"]


def test_computed_labels_that_are_no_numbers():
    config = DataConfig(label_fields=["clk"], extra_label_func=[{"label_name": "r", "label_func": "1 / clk"}])
    text = message(lambda: labels_from(pl.DataFrame({"clk": [1, 0]}), config))
    assert "`r`: `1 / clk` must give a finite number. Received in 1 row:\n  row 2, column `r`: inf" in text


def test_rows_without_labels_are_skipped_where_bad_rows_are(tmp_path: Path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"clk,buy,x\n1,1,a\n,0,b\n0,z,c\n0,0,d\nbad\n")
    config = DataConfig(with_header=True, label_fields=["clk", "buy"], on_bad_rows="skip")
    result = drop_unlabelled(read_table(path, config), config)
    assert result.frame["x"].to_list() == ["a", "d"]
    assert result.skipped == 3
    assert [result.origin(row) for row in (0, 1)] == [f"{path}, line 2", f"{path}, line 5"]
    assert [(row.row, row.column) for row in result.examples] == [(6, None), (3, "clk"), (4, "buy")]
    assert labels_from(result.frame, config)["buy"].tolist() == [1.0, 0.0]
    strict = config.model_copy(update={"on_bad_rows": "error"})
    assert drop_unlabelled(result, strict) is result


@pytest.mark.parametrize(
    ("loss", "classes", "bad", "rule"),
    [
        ("CLASSIFICATION", 1, [2.0, -0.5, np.nan, np.inf], "CLASSIFICATION needs labels from 0 to 1"),
        ("BINARY_FOCAL_LOSS", 1, [1.5], "BINARY_FOCAL_LOSS needs labels from 0 to 1"),
        ("CLASSIFICATION", 3, [3.0, -1.0, 0.5, np.nan], "num_class 3 needs whole numbers from 0 to 2"),
        ("L2_LOSS", 1, [np.nan, -np.inf], "L2_LOSS needs finite labels"),
        ("ZILN_LOSS", 1, [-1.0], "ZILN_LOSS needs labels of 0 or more"),
    ],
)
def test_labels_that_a_loss_cannot_use(loss, classes, bad, rule):
    good = np.array([0.0, 1.0], np.float32)
    check_labels(good, classes, loss)
    for value in bad:
        values = np.append(good, np.float32(value))
        text = message(lambda values=values: check_labels(values, classes, loss, name="clk"))
        assert rule in text
        assert text.startswith("Label or weight `clk`: ")
        assert text.endswith(f"row 3, column `clk`: {float(value)!r}")


def test_labels_that_a_loss_can_use():
    check_labels(np.array([0.25, 1.0], np.float32), 1, "CLASSIFICATION")
    check_labels(np.array([2.0, 0.0], np.float32), 3, "CLASSIFICATION")
    check_labels(np.array([-7.5, 1e6], np.float32), 1, "L2_LOSS")
    check_labels(np.array([[0.0, 1.0]], np.float32), 1, "CLASSIFICATION")
    assert "row 1, column `label`: [0.0, 2.0]" in message(
        lambda: check_labels(np.array([[0.0, 2.0]], np.float32), 1, "CLASSIFICATION")
    )


def test_weights():
    config = DataConfig(sample_weight="w")
    weights = weights_from(pl.DataFrame({"w": ["0", "2.5"]}), config)
    assert weights is not None
    assert weights.dtype == np.float32
    assert weights.tolist() == [0.0, 2.5]
    assert weights_from(pl.DataFrame({"w": [1]}), DataConfig()) is None
    for bad in (-1.0, float("nan"), float("inf"), None):
        text = message(lambda bad=bad: weights_from(pl.DataFrame({"w": [1.0, bad]}), config))
        assert "`w`: a sample weight must be a finite number of 0 or more. Received in 1 row:\n  row 2" in text
    assert "column `w` named by data_config.sample_weight must exist." in message(
        lambda: weights_from(pl.DataFrame({"x": [1]}), config)
    )


def test_group_ids():
    frame = pl.DataFrame({"n": [7, 8, 7], "t": ["7", "8", "7"], "f": [0.5, 0.25, 0.5], "z": [None, "", "x"]})
    ids = group_ids(frame, ["n", "t", "f", "z"])
    assert all(codes.dtype == np.int64 and codes.shape == (3,) for codes in ids.values())
    assert ids["n"].tolist() == ids["t"].tolist()
    for name in ("n", "f"):
        assert ids[name][0] == ids[name][2] != ids[name][1]
    assert ids["z"][0] == ids["z"][1] != ids["z"][2]
    assert "must hold one value a row. Stored type: List(Int64)." in message(
        lambda: group_ids(pl.DataFrame({"l": [[1]]}), ["l"])
    )
