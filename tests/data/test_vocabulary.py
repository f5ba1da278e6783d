import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intarsia.core.errors import DataError
from intarsia.data.vocabulary import ValueCounter, Vocabulary


def test_given_values_start_in_row_0_which_unseen_values_share():
    vocabulary = Vocabulary(["red", "green", "blue"])
    assert vocabulary.rows(pl.Series(["blue", "red", "pink", None, ""])).tolist() == [2, 0, 0, 0, 0]
    assert vocabulary.raw([0, 2, 3, -1]).to_list() == ["red", "blue", None, None]
    assert vocabulary.num_rows == len(vocabulary) == 3


def test_learned_values_are_ordered_by_count_then_text_and_leave_row_0_to_unseen_ones():
    vocabulary = Vocabulary.learn([pl.Series(["b", "c", "c", "z"]), pl.Series(["a", "b", None, "c"])])
    assert vocabulary.values.to_list() == ["c", "b", "a", "z"]
    assert vocabulary.rows(pl.Series(["c", "z", "new"])).tolist() == [1, 4, 0]
    assert vocabulary.raw([0, 1]).to_list() == [None, "c"]
    assert vocabulary.num_rows == 5


def test_rare_values_are_left_to_row_0():
    vocabulary = Vocabulary.learn([pl.Series(["a", "a", "b"])], min_count=2)
    assert vocabulary.rows(pl.Series(["a", "b"])).tolist() == [1, 0]


def test_an_empty_vocabulary_has_one_row():
    assert Vocabulary.learn([]).num_rows == 1
    assert Vocabulary([]).num_rows == 1
    assert Vocabulary([]).rows(pl.Series(["a"])).tolist() == [0]


@given(st.lists(st.text(max_size=5), unique=True), st.lists(st.text(max_size=5)), st.integers(0, 1))
def test_lookup_equals_a_dictionary_and_turns_back(values, texts, first_row):
    vocabulary = Vocabulary(values, first_row)
    table = {value: row for row, value in enumerate(values, first_row)}
    asked = pl.Series(values + texts, dtype=pl.String)
    assert vocabulary.rows(asked).tolist() == [table.get(text, 0) for text in values + texts]
    assert vocabulary.raw(vocabulary.rows(pl.Series(values, dtype=pl.String))).to_list() == values


@given(st.lists(st.sampled_from("abcdef")), st.integers(0, 9))
def test_counting_in_pieces_equals_counting_at_once(values, cut):
    pieces = [pl.Series(values[:cut], dtype=pl.String), pl.Series(values[cut:], dtype=pl.String)]
    whole = Vocabulary.learn([pl.Series(values, dtype=pl.String)])
    assert Vocabulary.learn(pieces).values.to_list() == whole.values.to_list()
    counter = ValueCounter()
    assert counter.vocabulary().num_rows == 1


def test_files(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes("rot\r\nblau\r\n\r\ngrün".encode())
    assert Vocabulary.read(path).values.to_list() == ["rot", "blau", "", "grün"]
    saved = tmp_path / "v.json"
    vocabulary = Vocabulary(["a\nb", "ß"], first_row=1)
    vocabulary.save(saved)
    assert Vocabulary.load(saved).to_json() == {"first_row": 1, "values": ["a\nb", "ß"]}


def test_errors(tmp_path):
    with pytest.raises(DataError, match=r"Received 'a' at positions 0 and 2 of feature `x`"):
        Vocabulary(["a", "b", "a"], name="feature `x`")
    with pytest.raises(DataError, match=r"Received .*nowhere\.txt.*a relative one starts at the working directory"):
        Vocabulary.read(tmp_path / "nowhere.txt")
    (tmp_path / "bad.json").write_text('{"values": []}')
    with pytest.raises(DataError, match=r"bad\.json: 'first_row'"):
        Vocabulary.load(tmp_path / "bad.json")
    (tmp_path / "latin.txt").write_bytes(b"\xff\n")
    with pytest.raises(DataError, match="UTF-8"):
        Vocabulary.read(tmp_path / "latin.txt")
