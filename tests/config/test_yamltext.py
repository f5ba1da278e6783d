"""YAML and JSON -> nodes."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intarsia.config import jsontext, yamltext
from intarsia.config.nodes import plain
from intarsia.core.errors import ConfigError


def read(text: str) -> Any:
    return plain(yamltext.parse(text, "a.yaml"))


def error(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        yamltext.parse(text, "a.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        (".5", 0.5),
        ("2.", 2.0),
        ("-7", -7),
        ("0x1F", 31),
        ("0o17", 15),
        ("007", 7),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("12:30:00", "12:30:00"),
        ("2024-01-31", "2024-01-31"),
        ("1_000", "1_000"),
        ("'5'", "5"),
        ('"\\x02"', "\x02"),
        ("1.2.3", "1.2.3"),
        ("a b", "a b"),
    ],
)
def test_scalars(written: str, expected: object) -> None:
    out = read(f"a: {written}")["a"]
    assert out == expected
    assert type(out) is type(expected)


def test_positions_are_those_of_the_text() -> None:
    root = yamltext.parse("a: 1\nb:\n  c: x\n  d: [7,\n      8]\n", "a.yaml")
    b = root.entries["b"]
    assert (b.key_line, b.line) == (2, 3)
    assert (b.entries["c"].line, b.entries["c"].column) == (3, 6)
    assert [(item.line, item.column) for item in b.entries["d"].items] == [(4, 7), (5, 7)]


def test_an_alias_repeats_its_anchor() -> None:
    assert read("a: &x {b: [1]}\nc: *x\n") == {"a": {"b": [1]}, "c": {"b": [1]}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "a.yaml:3:1: the key 'a' is given twice in one mapping (first on line 1)"),
        ("a: !!python/name:os.system ''", "a.yaml:1:4: tags such as `tag:yaml.org,2002:python/name:os.system` are not"),
        ("a: !x 1", "a.yaml:1:4: tags such as `!x` are not allowed; write plain data"),
        ("a: *x", "a.yaml:1:4: the alias `*x` has no anchor before it"),
        ("a: &x [1, *x]", "a.yaml:1:11: the alias `*x` stands inside what it repeats"),
        ("a: 1\n---\nb: 2\n", "a.yaml:2:1: a second document starts here; a pipeline file holds one"),
        ("a: {<<: {b: 1}}", "a.yaml:1:5: merge keys (`<<`) are not allowed"),
        ("? [1]\n: 2\n", "a.yaml:1:3: a key is a word, found something else"),
        ("a:\n\t- b\n", "(YAML is indented by spaces, not by tabs)"),
        ("a: [1, 2", "this is not YAML"),
        ("a: " + "9" * 500, "a.yaml:1:4: found a number of 500 digits, which is too long"),
        ("a: 'x\x02'", 'write it as an escape in double quotes, such as "\\x02"'),
        ("a:" + " [" * 5000, "nested deeper than 100 levels, which is not allowed"),
    ],
)
def test_errors(text: str, message: str) -> None:
    assert message in error(text)
    assert error(text).startswith("a.yaml:")


def test_exploding_aliases_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert "aliases repeat more than 100000 values, which is not allowed" in error("\n".join(lines))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=20,
    )
)
def test_json_is_read_as_the_standard_library_reads_it(value: Any) -> None:
    if not math.isinf(1.0 if not isinstance(value, float) else value):
        for indent in (None, 2):
            text = json.dumps(value, indent=indent)
            if "Infinity" not in text and "\\ud" not in text:
                assert plain(jsontext.parse(text)) == value


def test_positions_in_json() -> None:
    root = jsontext.parse('{"a": 1,\n "b": {"c":\n [1, 2]}}', "a.json")
    b = root.entries["b"]
    assert (root.entries["a"].line, root.entries["a"].column) == (1, 7)
    assert (b.key_line, b.column) == (2, 7)
    assert (b.entries["c"].key_line, b.entries["c"].line, b.entries["c"].column) == (2, 3, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,}', "a.json:1:9: found '}', expected a key in double quotes"),
        ('{"a" 1}', "a.json:1:6: found '1}', expected `:` after the key"),
        ('{"a": 1\n "b": 2}', "a.json:2:2: found '\"b\": 2}', expected `,` or `}`"),
        ('{"a": [1, 2}', "a.json:1:12: found '}', expected `,` or `]`"),
        ('{"a": nope}', "a.json:1:7: found 'nope}', expected a JSON value"),
        ('{"a": ', "a.json:1:7: found the end of the file, expected a JSON value"),
        ('{"a": 1, "a": 2}', "a.json:1:10: the key 'a' is given twice in one mapping (first on line 1)"),
        ("{} {}", "a.json:1:4: found '{}', expected the end of the file"),
        ('{"a": "x', "a.json:1:7: this is not JSON: Unterminated string starting at"),
        ('{"a": "\\ud800"}', "half of a surrogate pair in a string, which is no text"),
        ("[" * 5000, "a.json:1:102: nested deeper than 100 levels, which is not allowed"),
        ('{"a": ' + "9" * 500 + "}", "a.json:1:7: found a number of 500 digits, which is too long"),
    ],
)
def test_json_errors(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        jsontext.parse(text, "a.json")
    assert message in str(caught.value)
