"""Paths, folders, globs and lists."""

from __future__ import annotations

import pytest

from intarsia.core.errors import DataError
from intarsia.data.reading import resolve_paths


@pytest.fixture
def folder(tmp_path):
    for name in ("b.csv", "a.csv", "c.tsv", "_SUCCESS", ".hidden.csv", "x,y.csv", "odd[1].csv"):
        (tmp_path / name).write_text("1\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.csv").write_text("1\n")
    (tmp_path / "void").mkdir()
    return tmp_path


def names(paths):
    return [path.name for path in paths]


def test_lists_keep_their_order_and_globs_are_sorted(folder):
    assert names(resolve_paths("b.csv, a.csv", folder)) == ["b.csv", "a.csv"]
    assert names(resolve_paths("c.tsv,?.csv", folder)) == ["c.tsv", "a.csv", "b.csv"]
    assert names(resolve_paths(folder)) == ["a.csv", "b.csv", "c.tsv", "odd[1].csv", "x,y.csv"]
    assert names(resolve_paths("**/d.csv", folder)) == ["d.csv"]
    assert names(resolve_paths(["b.csv", folder / "a.csv"], folder)) == ["b.csv", "a.csv"]


def test_hidden_files_are_left_out_unless_named(folder):
    assert names(resolve_paths("*a*.csv", folder)) == ["a.csv"]
    assert names(resolve_paths("_SUCCESS", folder)) == ["_SUCCESS"]
    with pytest.raises(DataError, match="matches no file"):
        resolve_paths("*SUCCESS", folder)


def test_existing_names_win_over_commas_and_globs(folder):
    assert names(resolve_paths("x,y.csv", folder)) == ["x,y.csv"]
    assert names(resolve_paths("odd[1].csv", folder)) == ["odd[1].csv"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("aa.csv", "File `aa.csv` does not exist in folder `{0}`. Near names there: a.csv"),
        ("zzzzzzz", "File `zzzzzzz` does not exist in folder `{0}`. It holds: _SUCCESS, a.csv, b.csv"),
        ("*.parquet", "Pattern `*.parquet` matches no file in folder `{0}`. It holds: "),
        ("nowhere/a.csv", "File `nowhere/a.csv` does not exist: folder `{0}/nowhere` does not exist (`{0}` does)."),
        ("void", "Folder `{0}/void` must hold data files. It holds none"),
        (" , ", "An input path must name at least one file. Received an empty path."),
    ],
)
def test_what_does_not_exist(folder, spec, expected):
    with pytest.raises(DataError) as caught:
        resolve_paths(spec, folder)
    assert expected.format(folder) in str(caught.value)
