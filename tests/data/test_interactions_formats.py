"""The files that a log may come in: each small, and each read to the same arrays."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from intarsia.config.schema import FilterConfig, LogConfig
from intarsia.core.errors import DataError
from intarsia.data.catalogue.entry import RawLog
from intarsia.data.interactions.build import build_interactions
from intarsia.data.interactions.formats import frame_of, read_raw_log, tell_format, with_files
from intarsia.data.interactions.interactions import Interactions

ROLES: dict[str, Any] = {"user_field": "u", "item_field": "i", "rating_field": "r", "time_field": "t"}
ROWS = [("a", "x", 5, 30), ("b", "y", 1, 10), ("a", "z", 4, 20), ("b", "x", 3, 40)]
"""User, item, rating, time; not in the order of time."""
IN_ORDER = {"a": ["z", "x"], "b": ["y", "x"]}


def log_of(path: Path | str, valid: Any = None, test: Any = None, **options: Any) -> Interactions:
    config = LogConfig.model_validate(options)
    return build_interactions(read_raw_log(path, config, valid=valid, test=test), config)


def histories(log: Interactions) -> dict[str, list[str]]:
    """Raw items of each raw user, in order."""
    items = log.item_ids.raw(log.items).to_list()
    return {user: items[a:b] for user, a, b in zip(log.user_ids.ids.to_list(), log.offsets.tolist(), log.offsets[1:])}


def of_part(log: Interactions, part: int) -> dict[str, list[str]]:
    """The same, of one part."""
    assert log.parts is not None
    found: dict[str, list[str]] = {}
    users, items = log.user_ids.raw(log.user_of).to_list(), log.item_ids.raw(log.items).to_list()
    for user, item, here in zip(users, items, log.parts.tolist()):
        if here == part:
            found.setdefault(user, []).append(item)
    return found


def text(separator: str = ",", header: str | None = "u,i,r,t") -> str:
    lines = [separator.join(map(str, row)) for row in ROWS]
    return "\n".join([*([header.replace(",", separator)] if header else []), *lines]) + "\n"


# Tables


@pytest.mark.parametrize(
    ("name", "separator"), [("log.csv", ","), ("log.tsv", "\t"), ("log.dat", "::"), ("log.txt", ";"), ("log.csv", "|")]
)
def test_a_table_is_read_whatever_separates_its_cells(tmp_path: Path, name: str, separator: str) -> None:
    (tmp_path / name).write_text(text(separator))
    log = log_of(tmp_path / name, **ROLES)
    assert histories(log) == IN_ORDER
    assert log.ratings is not None
    assert log.ratings.tolist() == [4, 5, 1, 3]
    assert log.times is not None
    assert log.times.tolist() == [20, 30, 10, 40]


def test_a_table_without_a_header_gets_the_names_that_are_given(tmp_path: Path) -> None:
    (tmp_path / "ratings.dat").write_text(text("::", header=None))
    assert histories(log_of(tmp_path / "ratings.dat", columns=["u", "i", "r", "t"], **ROLES)) == IN_ORDER


def test_packed_text_parquet_and_data_frames_read_as_the_table(tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS, schema=["u", "i", "r", "t"], orient="row")
    with gzip.open(tmp_path / "log.csv.gz", "wt") as file:
        file.write(text())
    frame.write_parquet(tmp_path / "log.parquet")
    config = LogConfig.model_validate(ROLES)
    for log in (
        log_of(tmp_path / "log.csv.gz", **ROLES),
        log_of(tmp_path / "log.parquet", **ROLES),
        *(
            build_interactions(RawLog(frame_of(given, config)), config)
            for given in (frame, frame.lazy(), frame.to_arrow(), frame.to_dict(as_series=False))
        ),
    ):
        assert histories(log) == IN_ORDER
        assert log.times is not None
        assert log.times.tolist() == [20, 30, 10, 40]


def test_several_files_are_one_log(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("u,i\na,x\nb,y\n")
    (tmp_path / "2.csv").write_text("i,u\nz,a\nx,b\n")
    log = log_of(str(tmp_path / "*.csv"), user_field="u", item_field="i")
    assert histories(log) == {"a": ["x", "z"], "b": ["y", "x"]}


def test_quoted_cells_may_hold_the_separator(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text('u,i\na,"x, the first"\nb,y\na,"say ""hello"""\n')
    log = log_of(tmp_path / "log.csv", user_field="u", item_field="i")
    assert histories(log) == {"a": ["x, the first", 'say "hello"'], "b": ["y"]}


def test_whole_numbers_sort_by_value_and_zeros_in_front_count(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("u,i\n10,7\n9,100\n10,8\n")
    (tmp_path / "z.csv").write_text("u,i\n10,007\n9,7\n10,8\n")
    roles = {"user_field": "u", "item_field": "i"}
    numbers, words = log_of(tmp_path / "n.csv", **roles), log_of(tmp_path / "z.csv", **roles)
    assert numbers.user_ids.ids.to_list() == ["9", "10"]
    assert numbers.item_ids.ids.to_list() == ["7", "8", "100"]
    assert words.item_ids.ids.to_list() == ["007", "7", "8"]


def test_context_columns_follow_their_rows(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("u,i,t,device,n\na,x,2,phone,1\nb,y,3,desk,2\na,y,1,tv,3\n")
    log = log_of(tmp_path / "log.csv", user_field="u", item_field="i", time_field="t", context_fields=["device", "n"])
    assert histories(log) == {"a": ["y", "x"], "b": ["y"]}
    assert log.context["device"].to_list() == ["tv", "phone", "desk"]
    assert log.context["n"].to_list() == [3, 1, 2]


def test_a_folder_holds_the_parts_under_their_usual_names(tmp_path: Path) -> None:
    for part, lines in (("train", "0 10 11\n1 12 10 11\n"), ("valid", "0 12\n"), ("test", "0 13\n1 13\n")):
        (tmp_path / f"{part}.txt").write_text(lines)
    log = log_of(tmp_path)
    assert of_part(log, 0) == {"0": ["10", "11"], "1": ["12", "10", "11"]}
    assert of_part(log, 1) == {"0": ["12"]}
    assert of_part(log, 2) == {"0": ["13"], "1": ["13"]}
    alone = log_of(tmp_path / "train.txt")
    assert alone.parts is None
    assert alone.num_items == 3


# Atomic files


def atomic(folder: Path) -> Path:
    (folder / "s.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu1\ti2\t4\t20\nu2\ti1\t3\t5\nu1\ti1\t5\t10\n"
    )
    (folder / "s.user").write_text("user_id:token\tage:float\nu2\t31\nu1\t24\n")
    (folder / "s.item").write_text(
        'item_id:token\tname:token_seq\tvector:float_seq\ni1\tThe "one"\t0.5 1\ni2\tTwo words\t2 3\ni3\tNever\t4 5\n'
    )
    (folder / "s.kg").write_text("head_id:token\trelation_id:token\ttail_id:token\nm.1\tdirected\tm.9\n")
    (folder / "s.link").write_text("item_id:token\tentity_id:token\ni1\tm.1\n")
    return folder / "s.inter"


def test_atomic_files_bring_their_tables_along(tmp_path: Path) -> None:
    roles = LogConfig(rating_field="rating", time_field="timestamp", title_field="name")
    raw = read_raw_log(atomic(tmp_path), roles)
    log = build_interactions(raw, roles)
    assert histories(log) == {"u1": ["i1", "i2"], "u2": ["i1"]}
    assert log.users is not None
    assert log.users.to_dict(as_series=False) == {"user_id": ["u1", "u2"], "age": [24, 31]}
    assert log.catalogue is not None
    assert log.catalogue["name"].to_list() == ['The "one"', "Two words"]
    assert log.catalogue["vector"].to_list() == [[0.5, 1.0], [2.0, 3.0]]
    assert raw.knowledge is not None
    assert raw.knowledge.rows() == [("m.1", "directed", "m.9")]
    assert raw.links is not None
    assert raw.links.rows(named=True) == [{"item": "i1", "entity": "m.1"}]


def test_the_parts_of_atomic_files_lie_beside_each_other(tmp_path: Path) -> None:
    head = "user_id:token\titem_id:token\n"
    for part, rows in (("train", "u\ta\nv\tb\n"), ("valid", "u\tb\n"), ("test", "v\ta\n")):
        (tmp_path / f"s.{part}.inter").write_text(head + rows)
    log = log_of(tmp_path / "s.train.inter")
    assert [of_part(log, part) for part in (0, 1, 2)] == [{"u": ["a"], "v": ["b"]}, {"u": ["b"]}, {"v": ["a"]}]


@pytest.mark.parametrize(
    ("ending", "content", "message"),
    [
        (
            "inter",
            "user_id:token\titem_id\nu\ta\n",
            "the header of an atomic file says `name:type` for each column, with a type of token, token_seq, float, "
            "float_seq. Received: item_id:. Correct the header, or set log.format: table.",
        ),
        (
            "item",
            "item_id:token\tw:float_seq\ni1\t1 2\ni2\t1 x\n",
            "`w:float_seq` must hold numbers. Received: '1 x' in row 2. Correct the row, or the type in the header.",
        ),
        (
            "item",
            "item_id:token\tprice:float\ni1\tcheap\n",
            "`price:float` must hold numbers. Received: 'cheap' in row 1. Correct the row, or the type in the header.",
        ),
        (
            "kg",
            "head:token\ttail:token\na\tb\n",
            "the columns must be head, relation, tail. Received: head, tail. Drop the others.",
        ),
    ],
)
def test_atomic_files_that_break_their_own_rules(tmp_path: Path, ending: str, content: str, message: str) -> None:
    path = atomic(tmp_path)
    (tmp_path / f"s.{ending}").write_text(content)
    with pytest.raises(DataError) as caught:
        read_raw_log(path, LogConfig())
    assert str(caught.value) == f"{tmp_path / f's.{ending}'}: {message}"


# Lines of items


def test_lines_are_a_user_and_the_items_oldest_first(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("7 3 1 2\n\n8 2\n9\n")
    assert histories(log_of(tmp_path / "log.txt", format="lines")) == {"7": ["3", "1", "2"], "8": ["2"]}


def test_words_of_lines_may_be_text(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("ann,pie,tea\nbob,tea\n")
    assert histories(log_of(tmp_path / "log.txt", format="lines")) == {"ann": ["pie", "tea"], "bob": ["tea"]}


def test_lines_of_a_file_in_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 16 bytes hold two or three lines each."""
    monkeypatch.setattr("intarsia.data.interactions.lines._BLOCK", 16)
    wanted = {str(user): [str(user + 1000 + k) for k in range(user % 4 + 1)] for user in range(60)}
    (tmp_path / "log.txt").write_text("".join(f"{user} {' '.join(items)}\n" for user, items in wanted.items()))
    assert histories(log_of(tmp_path / "log.txt")) == wanted


def test_lines_hold_no_ratings(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("7 3 1 2\n8 2\n")
    with pytest.raises(DataError) as caught:
        log_of(tmp_path / "log.txt", format="lines", time_field="t", context_fields=["c"])
    assert str(caught.value) == (
        "files of log.format lines hold users and items alone, oldest first. Received: log.time_field, "
        "log.context_fields. Remove it, or set log.format."
    )


# Fixed negatives


def ncf(folder: Path, negatives: str) -> Path:
    (folder / "s.train.rating").write_text("0\t10\t5\t100\n0\t11\t4\t50\n1\t12\t3\t70\n1\t13\t3\t80\n")
    (folder / "s.test.rating").write_text("0\t12\t4\t200\n1\t10\t4\t210\n")
    (folder / "s.test.negative").write_text(negatives)
    return folder / "s.train.rating"


def test_ncf_files_bring_fixed_negatives(tmp_path: Path) -> None:
    log = log_of(ncf(tmp_path, "(1,10)\t11\n(0,12)\t13\t10\n"))
    assert of_part(log, 0) == {"0": ["10", "11"], "1": ["12", "13"]}  # without log.time_field, as the file has them
    assert of_part(log, 2) == {"0": ["12"], "1": ["10"]}
    assert log.negative_users is not None
    assert log.negative_users.tolist() == [0, 1]
    assert log.fixed_negatives is not None
    assert log.fixed_negatives.tolist() == [[3, 0], [1, -1]]


def test_ncf_files_have_ratings_and_times_where_they_are_asked_for(tmp_path: Path) -> None:
    log = log_of(ncf(tmp_path, "(0,12)\t13\n"), rating_field="rating", time_field="timestamp")
    assert of_part(log, 0) == {"0": ["11", "10"], "1": ["12", "13"]}
    assert log.ratings is not None
    assert log.ratings.tolist() == [4, 5, 4, 3, 3, 4]


def test_negatives_may_name_the_user_alone(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("0 10 11\n1 12 13 10\n")
    (tmp_path / "test.txt").write_text("0 12\n1 11\n")
    (tmp_path / "negatives.txt").write_text("0 13 12\n1 10 13\n")
    log = log_of(tmp_path / "train.txt", test=tmp_path / "test.txt", negatives_path=str(tmp_path / "negatives.txt"))
    assert log.fixed_negatives is not None
    assert log.fixed_negatives.tolist() == [[3, -1], [0, 3]]  # 12 is what user 0 is asked for


# Sessions


def test_sessions_are_lines_of_items_and_prefixes_with_a_target(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("3 1 2\n2 1\n")
    (tmp_path / "test.tsv").write_text("prefix\ttarget\n1 2\t3\n3\t1\n")
    log = log_of(tmp_path / "train.txt", test=tmp_path / "test.tsv")
    assert of_part(log, 0) == {"1": ["3", "1", "2"], "2": ["2", "1"]}
    assert of_part(log, -1) == {"3": ["1", "2"], "4": ["3"]}
    assert of_part(log, 2) == {"3": ["3"], "4": ["1"]}


def test_prefixes_need_no_header_and_may_be_separated_by_commas(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("3,1,2\n2,1\n")
    (tmp_path / "test.tsv").write_text("1,2\t3\n\n3\t1\n")
    log = log_of(tmp_path / "train.txt", test=tmp_path / "test.tsv", format="sessions")
    assert of_part(log, -1) == {"3": ["1", "2"], "4": ["3"]}
    assert of_part(log, 2) == {"3": ["3"], "4": ["1"]}


def test_a_prefix_without_a_target_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("3 1 2\n2 1\n")
    (tmp_path / "test.tsv").write_text("prefix\ttarget\n1 2\t3\n3 1\n")
    with pytest.raises(DataError) as caught:
        log_of(tmp_path / "train.txt", test=tmp_path / "test.tsv", format="sessions")
    assert str(caught.value) == (
        f"{tmp_path / 'test.tsv'}, line 3: a test row must be `prefix TAB target`. Received: '3 1'. Correct the line, "
        "or set log.format."
    )


# Telling them apart


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.inter", "x", "atomic"),
        ("a.train.rating", "0\t1", "ncf"),
        ("a.csv", "u,i\n1,2\n", "table"),
        ("a.txt", "u i\n1 2\n", "table"),
        ("a.txt", "1 2 3\n2 3\n", "lines"),
        ("a.dat", "one::two\n", "table"),
    ],
)
def test_the_format_is_told_by_name_and_content(tmp_path: Path, name: str, content: str, kind: str) -> None:
    (tmp_path / name).write_text(content)
    assert tell_format(tmp_path / name, LogConfig(user_field="u", item_field="i")) == kind


def test_a_format_that_nothing_tells(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1 2 3\n4 5 6\n")
    with pytest.raises(DataError) as caught:
        tell_format(tmp_path / "a.txt", LogConfig())
    assert str(caught.value) == (
        f"{tmp_path / 'a.txt'}: the format of a log is told by its ending, its header or its lines. Received: "
        "'1 2 3'. Set log.format to table (and name the columns in log.columns where there is no header), lines, "
        "sessions, ncf or atomic."
    )


def test_files_that_the_configuration_names_join_a_frame(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("i,title\nx,Ex\ny,Why\n")
    config = LogConfig(user_field="u", item_field="i", item_table="items.csv", title_field="title")
    raw = with_files(RawLog(pl.DataFrame({"u": ["a", "b"], "i": ["y", "x"]})), config, tmp_path)
    log = build_interactions(raw, config, FilterConfig())
    assert log.catalogue is not None
    assert log.catalogue["title"].to_list() == ["Ex", "Why"]


# Files of others, where they are at hand

SHARED = Path(__file__).parents[3] / "shared" / "data"


def real(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not in ../shared/data")
    return SHARED / name


@pytest.mark.parametrize(
    ("name", "users", "items", "parts"),
    [
        ("gowalla", 29_858, 40_981, {0: 810_128, 2: 217_242}),
        ("AmazonElectronics_m1", 1_435, 1_522, {0: 31_887, 2: 4_044}),
        ("lightgcnpp-lastfm", 1_885, 17_388, {0: 64_315, 1: 9_143, 2: 18_321}),
    ],
)
def test_splits_of_others_are_read_whole(name: str, users: int, items: int, parts: dict[int, int]) -> None:
    log = log_of(real(name))
    assert log.parts is not None
    assert (log.num_users, log.num_items) == (users, items)
    assert {part: int((log.parts == part).sum()) for part in parts} == parts


def test_the_ncf_file_has_156_rows_with_the_positive_among_the_negatives(caplog: pytest.LogCaptureFixture) -> None:
    folder = real("ncf-ml-1m")
    log = log_of(
        folder / "train.tsv.gz",
        test=folder / "ml-1m.test.rating",
        format="ncf",
    )
    assert (log.num_users, log.num_items, log.num_interactions) == (6_040, 3_706, 994_169 + 6_040)
    assert log.fixed_negatives is not None
    assert log.fixed_negatives.shape == (6_040, 99)
    assert int((log.fixed_negatives < 0).any(axis=1).sum()) == 156
    assert "in 156 of 6,040 rows the test item is among its own negatives" in caplog.text


def test_ml_100k_is_read_with_its_graph() -> None:
    roles = LogConfig(rating_field="rating", time_field="timestamp", title_field="movie_title")
    raw = read_raw_log(real("ml-100k") / "ml-100k.inter", roles)
    log = build_interactions(raw, roles)
    assert (log.num_users, log.num_items, log.num_interactions) == (943, 1_682, 100_000)
    assert raw.knowledge is not None
    assert raw.knowledge.height == 91_631
    assert raw.links is not None
    assert raw.links.height == 1_598
    assert log.users is not None
    assert log.users["age"].null_count() == 0


def test_ml_1m_and_its_core_are_read() -> None:
    config = LogConfig(user_field="user_id", item_field="movie_id")
    raw = read_raw_log(real("ml-1m") / "interactions_time_ordered.tsv.gz", config)
    log = build_interactions(raw, config)
    assert (log.num_users, log.num_items, log.num_interactions) == (6_040, 3_706, 1_000_209)
    core = build_interactions(raw, config, FilterConfig(min_item_interactions=5))
    assert (core.num_users, core.num_items, core.num_interactions) == (6_040, 3_416, 999_611)


def test_beauty_is_read() -> None:
    log = log_of(real("s3rec") / "Beauty.txt.gz")
    assert (log.num_users, log.num_items, log.num_interactions) == (22_363, 12_101, 198_502)
    assert int(log.lengths.min()) == 5


def test_sessions_of_diginetica_are_read() -> None:
    folder = real("session-diginetica")
    log = log_of(folder / "all_train_seq.txt.gz", test=folder / "test.tsv.gz")
    assert log.parts is not None
    train = log.parts == 0
    assert log.num_items == 43_097
    assert int(train.sum()) == 906_140
    assert int((log.parts == 2).sum()) == 60_858
    sessions = len(set(log.user_of[train].tolist()))
    assert sessions == 186_670
    assert int(train.sum()) - sessions == 719_470
