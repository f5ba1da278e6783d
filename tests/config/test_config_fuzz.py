"""Whatever is read, only a ConfigError comes out, and soon."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml as pyyaml
from config_samples import CL4SREC, EXTENSIONS, FULL_PBTEXT, FULL_YAML, WIDE_AND_DEEP
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intarsia.config.load import Syntax, from_mapping, parse_text
from intarsia.config.nodes import plain
from intarsia.config.pbtext import parse
from intarsia.config.resolve import dump_yaml
from intarsia.core.errors import ConfigError

LONGEST = 5.0
"""Seconds that one small text may take, on a busy machine."""

PIECES = [
    "{",
    "}",
    "<",
    ">",
    "[",
    "]",
    ":",
    ";",
    ",",
    "'",
    '"',
    "\\",
    "#",
    "\n",
    " ",
    "-",
    "1",
    "1e9999",
    "9" * 30,
    "inf",
    "nan",
    "true",
    "\x00",
    "\x02",
    "é",
    "😀",
    "&a ",
    "*a",
    "!!x ",
    "? ",
    "| ",
    "> ",
    "<<",
    "~",
    "%",
    "`",
    "@",
    "\t",
    "0x",
    "[1-3]",
]
WORDS = [
    "model_config",
    "feature_groups",
    "feature_names",
    "st_params",
    "fields",
    "key",
    "value",
    "number_value",
    "blocks",
    "inputs",
    "layer",
    "keras_layer",
    "mlp",
    "train_config",
    "optimizer",
    "learning_rate",
    "metrics_set",
    "shared_names",
    "feature_config",
    "feature_configs",
    "features",
    "input_names",
    "input_fields",
    "name",
    "backbone",
    "packages",
]


def attempt(action: Callable[[], Any]) -> None:
    start = time.process_time()
    try:
        made, told = action(), "a configuration"
    except ConfigError as error:
        made, told = None, str(error)
    assert told
    assert "pydantic" not in told
    assert "https://" not in told
    assert time.process_time() - start < LONGEST
    if made is not None:
        dump_yaml(made.config)


def check_text(text: str, syntax: Syntax) -> None:
    attempt(lambda: parse_text(text, syntax, "f", extensions=EXTENSIONS if len(text) % 2 else None))


def mutated(text: str, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 6)):
        at, end = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        end = min(end, at + rng.choice((0, 1, 3, 40)))
        move = rng.random()
        if move < 0.35:
            text = text[:at] + rng.choice(PIECES) + text[end:]
        elif move < 0.55:
            text = text[:at] + rng.choice(WORDS) + text[end:]
        elif move < 0.75:
            text = text[:at] + text[end:]
        else:
            text = text[:end] + text[at:end] * rng.choice((1, 2, 20)) + text[end:]
    return text


def mutated_tree(value: Any, rng: random.Random) -> Any:
    """The same with one value replaced, one key renamed, or one element doubled or dropped."""
    junk: list[Any] = [
        None,
        True,
        -1,
        0,
        1.5,
        10**40,
        float("nan"),
        float("inf"),
        "",
        "x",
        "f[1-3]",
        [],
        {},
        [[]],
        {"a": {}},
        [None],
        {"class_name": 1},
        "user_id",
        "deep",
        "\x00",
        "é" * 200,
    ]
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        out = dict(value)
        if rng.random() < 0.8:
            out[key] = mutated_tree(value[key], rng)
        elif rng.random() < 0.5:
            out[rng.choice(WORDS)] = out.pop(key)
        else:
            out[key + rng.choice(("s", "x", ""))] = rng.choice(junk)
        return out
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        if rng.random() < 0.7:
            return [*value[:at], mutated_tree(value[at], rng), *value[at + 1 :]]
        return [*value[:at], *value[at : at + 1] * rng.choice((0, 2)), *value[at + 1 :]]
    return rng.choice(junk)


TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(st.sampled_from([*PIECES, *WORDS, ": ", " {", "}\n", "\n  "]), max_size=80).map("".join),
)
TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(WORDS), st.text(max_size=4)), inner, max_size=6),
    ),
    max_leaves=30,
)
SEEDS = st.integers(0, 2**32)


def random_texts(text: str) -> None:
    for syntax in ("pbtext", "yaml", "json"):
        check_text(text, syntax)  # type: ignore[arg-type]


def mutated_files(seed: int) -> None:
    rng = random.Random(seed)
    check_text(mutated(rng.choice((FULL_PBTEXT, CL4SREC, WIDE_AND_DEEP)), rng), "pbtext")
    check_text(mutated(FULL_YAML, rng), "yaml")


def random_trees(tree: Any) -> None:
    attempt(lambda: from_mapping({"model_config": tree} if isinstance(tree, dict) else {"train_config": tree}))
    if isinstance(tree, dict):
        attempt(lambda: from_mapping(tree, extensions=EXTENSIONS))


RIGHT = [plain(parse(text)) for text in (FULL_PBTEXT, CL4SREC, WIDE_AND_DEEP)] + [pyyaml.safe_load(FULL_YAML)]


def mutated_trees(seed: int) -> None:
    rng = random.Random(seed)
    tree = rng.choice(RIGHT)
    for _ in range(rng.randint(1, 4)):
        tree = mutated_tree(tree, rng)
    if isinstance(tree, dict):
        attempt(lambda: from_mapping(tree, extensions=rng.choice((None, EXTENSIONS))))


short = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
long = settings(max_examples=10_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])

test_random_texts = short(given(TEXTS)(random_texts))
test_mutated_files = short(given(SEEDS)(mutated_files))
test_random_trees = short(given(TREES)(random_trees))
test_mutated_trees = short(given(SEEDS)(mutated_trees))

LONG = pytest.mark.fuzz, pytest.mark.timeout(7200)
test_many_random_texts = LONG[0](LONG[1](long(given(TEXTS)(random_texts))))
test_many_mutated_files = LONG[0](LONG[1](long(given(SEEDS)(mutated_files))))
test_many_random_trees = LONG[0](LONG[1](long(given(TREES)(random_trees))))
test_many_mutated_trees = LONG[0](LONG[1](long(given(SEEDS)(mutated_trees))))


@pytest.mark.parametrize("size", [200_000])
@pytest.mark.parametrize(
    ("syntax", "unit"),
    [
        ("pbtext", "{"),
        ("pbtext", "a {"),
        ("pbtext", "a: [{"),
        ("pbtext", "'"),
        ("pbtext", "\\"),
        ("pbtext", "a: 1 "),
        ("pbtext", "a: '\\001' "),
        ("pbtext", "x: 'a' 'b' "),
        ("pbtext", "a: -"),
        ("pbtext", "#"),
        ("pbtext", "\n"),
        ("pbtext", "1"),
        ("pbtext", "a"),
        ("yaml", "["),
        ("yaml", "{a: "),
        ("yaml", "- "),
        ("yaml", "a: "),
        ("yaml", "a"),
        ("yaml", "? "),
        ("yaml", "&a "),
        ("yaml", "'"),
        ("yaml", "1"),
        ("yaml", "- a\n"),
        ("json", "["),
        ("json", '{"a":'),
        ("json", "1"),
        ("json", '"'),
        ("json", "[[],"),
    ],
)
def test_long_texts_take_no_longer_than_they_should(syntax: Syntax, unit: str, size: int) -> None:
    check_text(unit * (size // len(unit)), syntax)


def test_a_key_repeated_many_times() -> None:
    check_text("model_config { model_class: 'x' } " * 5000, "pbtext")
    check_text("train_config { optimizer_config { adam_optimizer { } } } " * 3000, "pbtext")
