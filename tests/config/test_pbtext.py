"""Protobuf text -> nodes."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intarsia.config.nodes import plain
from intarsia.config.pbtext import parse
from intarsia.core.errors import ConfigError


def read(text: str) -> Any:
    return plain(parse(text, "a.config"))


def error(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "a.config")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# only a comment", {}),
        ("a: 1", {"a": 1}),
        ("a: { b: 2 }", {"a": {"b": 2}}),
        ("a { b: 2 }", {"a": {"b": 2}}),
        ("a: < b: 2 >", {"a": {"b": 2}}),
        ("a < b { } >", {"a": {"b": {}}}),
        ("a: 'x' b: \"y\"", {"a": "x", "b": "y"}),
        ("a: 'x' \"y\"\n 'z' # c\n 'w'", {"a": "xyzw"}),
        ("a: [1, 2] a: 3 a: [4]", {"a": [1, 2, 3, 4]}),
        ("a: []", {"a": []}),
        ("a: [1, 2,]", {"a": [1, 2]}),
        ("a: [{ b: 1 }, <b: 2>] a { b: 3 }", {"a": [{"b": 1}, {"b": 2}, {"b": 3}]}),
        ("a [{ b: 1 }]", {"a": [{"b": 1}]}),
        ("a: True b: true c: False d: false", {"a": True, "b": True, "c": False, "d": False}),
        ("a: DEEP b: [WIDE, DEEP]", {"a": "DEEP", "b": ["WIDE", "DEEP"]}),
        ("a: 1e-4 b: .5 c: 2. d: 0.5f e: 3f f: 1E+3", {"a": 1e-4, "b": 0.5, "c": 2.0, "d": 0.5, "e": 3.0, "f": 1e3}),
        ("a: -5 b: - 2.5 c: +3 d: -0x1F e: 010 f: -inf g: Infinity", None),
        ("a: 1; b: 2, c { } ; d: 3", {"a": 1, "b": 2, "c": {}, "d": 3}),
        ("a:1 b:2", {"a": 1, "b": 2}),
    ],
)
def test_forms(text: str, expected: dict[str, Any] | None) -> None:
    if expected is None:
        expected = {"a": -5, "b": -2.5, "c": 3, "d": -31, "e": 8, "f": -math.inf, "g": math.inf}
    out = read(text)
    assert out == expected
    assert repr(out) == repr(expected)  # 1 and 1.0 and True are not the same here


def test_nan_is_a_number() -> None:
    assert math.isnan(read("a: nan")["a"])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (r"\t", "\t"),
        (r"\001", "\x01"),
        (r"\x02", "\x02"),
        (r"\1a", "\x01a"),
        (r"\n\r\\\'\"", "\n\r\\'\""),
        (r"\u00e9", "é"),
        (r"\U0001F600", "😀"),
        (r"\344\275\240\345\245\275", "你好"),
        ("\x02\x1d", "\x02\x1d"),
        ("é 你", "é 你"),
        ("#{}", "#{}"),
        ("", ""),
    ],
)
def test_strings(written: str, expected: str) -> None:
    assert read(f"a: '{written}'") == {"a": expected}
    assert read(f'a: "{written}"') == {"a": expected}


def test_a_character_written_as_bytes_may_span_adjacent_strings() -> None:
    assert read(r"a: '\303' '\251'") == {"a": "é"}


def test_struct_becomes_a_plain_mapping() -> None:
    text = """st_params {
      fields { key: 'k' value { number_value: 0.1 } }
      fields { key: "flag" value: { bool_value: true } }
      fields { key: 'none' value { null_value: NULL_VALUE } }
      fields { key: 'units' value { list_value { values { number_value: 3 } values { string_value: 'x' } } } }
      fields { key: 'deep' value { struct_value { fields { key: 'a' value { number_value: -1 } } } } }
    }"""
    assert read(text) == {"st_params": {"k": 0.1, "flag": True, "none": None, "units": [3, "x"], "deep": {"a": -1}}}
    assert read("st_params { rate: 0.5 }") == {"st_params": {"rate": 0.5}}


def test_positions_are_those_of_the_text() -> None:
    root = parse("a: 1\n\n  bb {\n  c: 'x\x02'  d: [7,\n 8] }", "a.config")
    bb = root.entries["bb"]
    assert (root.entries["a"].line, root.entries["a"].column) == (1, 4)
    assert (bb.key_line, bb.line, bb.column) == (3, 3, 6)
    assert (bb.entries["c"].line, bb.entries["c"].column) == (4, 6)
    assert [(item.line, item.column) for item in bb.entries["d"].items] == [(4, 16), (5, 2)]
    assert bb.where == "a.config:3"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 5", "a.config:1:3: found `5`, expected `:` or `{` after `a`"),
        ("a: }", "a.config:1:4: found `}`, expected a value for `a`"),
        ("a:", "a.config:1:3: found the end of the file, expected a value for `a`"),
        ("\n x { y: 1\n", "a.config:3:1: found the end of the file, expected `}` for the `{` of line 2"),
        ("x { y: 1 >", "a.config:1:10: found `>`, expected a key or `}`"),
        ("}", "a.config:1:1: found `}`, expected a key"),
        ("'a': 1", "a.config:1:1: found \"'a'\", expected a key"),
        ("a: 'b", "a.config:1:4: a string that starts with ' is not closed on its line"),
        ("a: 'b\n'", "a.config:1:4: a string that starts with ' is not closed on its line"),
        ("a: @", "a.config:1:4: found '@', which starts neither a key nor a value"),
        (r"a: 'b\q'", "a.config:1:4: `\\q` is no escape of a string; a backslash itself is written `\\\\`"),
        (r"a: '\uD800'", "a.config:1:4: `\\uD800` is no escape of a string; a backslash itself is written `\\\\`"),
        (r"a: '\377'", "a.config:1:4: the bytes of the string \"'\\\\377'\" are not UTF-8 text"),
        ("a: 5x", "a.config:1:4: found `5x`, expected a number"),
        ("a: 09", "a.config:1:4: found `09`, expected a number"),
        ("a: 1.2.3", "a.config:1:4: found `1.2.3`, expected a number"),
        ("a: -x", "a.config:1:5: found `x`, expected a number after `-`"),
        ("a: [1 2]", "a.config:1:7: found `2`, expected `,` or `]` in the list of `a`"),
        ("a: [[1]]", "a.config:1:5: found `[`, expected a list element or `]` for `a`"),
        ("a: " + "9" * 500, "a.config:1:4: found a number of 500 digits, which is too long"),
        (
            "st_params { fields { key: 'k' } }",
            "a.config:1:20: `fields` of a Struct wants { key: 'name' value { ... } }",
        ),
        (
            "st_params { fields { key: 'k' value { number_value: 'x' } } }",
            "a.config:1:53: number_value received 'x', which is no number",
        ),
        (
            "st_params { fields { key: 'k' value { number: 1 } } }",
            "a.config:1:37: a value of a Struct sets one of number_value, string_value, bool_value, list_value, "
            "struct_value, null_value; received ['number']",
        ),
        (
            "st_params { fields { key: 'k' value { number_value: 1 } } fields { key: 'k' value { number_value: 1 } } }",
            "a.config:1:73: the key 'k' is given twice in one Struct",
        ),
    ],
)
def test_errors(text: str, message: str) -> None:
    assert error(text) == message


@pytest.mark.parametrize("opening", ["a {", "a: <", "a: [{"])
def test_deep_nesting_is_refused(opening: str) -> None:
    assert "nested deeper than 100 levels, which is not allowed" in error(opening * 50_000)


def test_nesting_up_to_the_limit_is_read() -> None:
    value = read("a {" * 100 + "}" * 100)
    for _ in range(100):
        value = value["a"]
    assert value == {}


# Against the protobuf library, where it is installed.


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=20))
def test_strings_are_read_as_protobuf_reads_them(text: str) -> None:
    encoding = pytest.importorskip("google.protobuf.text_encoding")
    for as_utf8 in (True, False):
        quoted = encoding.CEscape(text.encode(), as_utf8)
        assert read(f'a: "{quoted}"') == {"a": text}


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abcd", min_size=1, max_size=4), _VALUES, min_size=1, max_size=4), st.booleans())
def test_structs_are_read_as_protobuf_reads_them(value: dict[str, Any], one_line: bool) -> None:
    struct_pb2 = pytest.importorskip("google.protobuf.struct_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    message = struct_pb2.Struct()
    message.update(value)
    text = text_format.MessageToString(message, as_one_line=one_line)
    assert read(f"st_params {{ {text} }}")["st_params"] == value
