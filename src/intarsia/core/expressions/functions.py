"""Whitelisted functions: which arguments they take, under which names, and how values are checked."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

Converter = Callable[[object], object]

# Names that TensorFlow, torch and NumPy give to what is one argument here.
SYNONYMS: Mapping[str, frozenset[str]] = {
    "x": frozenset({"a", "features", "input", "input_tensor", "inputs", "logits", "t", "tensor", "value", "values"}),
    "tensors": frozenset({"inputs", "values", "arrays"}),
    "y": frozenset({"b", "other", "exponent"}),
    "axis": frozenset({"dim"}),
    "keepdims": frozenset({"keepdim", "keep_dims"}),
    "epsilon": frozenset({"eps"}),
    "low": frozenset({"clip_value_min", "min", "a_min"}),
    "high": frozenset({"clip_value_max", "max", "a_max"}),
    "splits": frozenset({"num_or_size_splits", "split_size_or_sections", "split_size"}),
    "perm": frozenset({"dims"}),
    "multiples": frozenset({"dims"}),
}


@dataclass(frozen=True)
class Parameter:
    """One argument: its name, whether it must be given, and what checks and converts its value."""

    name: str
    required: bool
    convert: Converter

    def answers_to(self, keyword: str) -> bool:
        """Whether `keyword` names this argument in one of the libraries."""
        return keyword == self.name or keyword in SYNONYMS.get(self.name, ())


@dataclass(frozen=True)
class Function:
    """A whitelisted function."""

    call: Callable[..., object]
    parameters: tuple[Parameter, ...]

    def bind(self, name: str, num_positional: int, keywords: Iterable[str]) -> tuple[Parameter, ...]:
        """The parameter of each argument of a call, positional ones first.

        Raises:
            ValueError: Too many, unknown, doubled or missing arguments.
        """
        if num_positional > len(self.parameters):
            raise ValueError(f"`{name}` takes at most {len(self.parameters)} arguments, got {num_positional}")
        bound = list(self.parameters[:num_positional])
        for keyword in keywords:
            match = next((p for p in self.parameters if p.answers_to(keyword)), None)
            if match is None:
                known = ", ".join(p.name for p in self.parameters)
                raise ValueError(f"`{name}` has no argument `{keyword[:40]}`; it has: {known}")
            if match in bound:
                raise ValueError(f"`{name}` got its argument `{match.name}` twice")
            bound.append(match)
        missing = next((p.name for p in self.parameters if p.required and p not in bound), None)
        if missing is not None:
            raise ValueError(f"`{name}` needs its argument `{missing}`")
        return tuple(bound)


def function(call: Callable[..., object], converters: Mapping[object, Converter]) -> Function:
    """Declares a function from its own signature: the annotation of each argument picks the converter."""
    hints = typing.get_type_hints(call)
    parameters = tuple(
        Parameter(name, argument.default is inspect.Parameter.empty, converters[hints[name]])
        for name, argument in inspect.signature(call).parameters.items()
    )
    return Function(call, parameters)


def _no_check(left: object, right: object) -> None:
    """Arrays may meet freely."""


@dataclass(frozen=True)
class Namespace:
    """All that an expression may name, and the arrays that it computes with.

    Attributes:
        functions: Function by dotted name.
        constants: Other values by name, such as number types; also what a quoted text may be.
        arrays: Types of array that operators work on.
        containers: Whether lists, tuples and indexing are allowed.
        check_pair: Refuses two operands whose result would be too large.
        allowed: What to do instead, for error messages.
    """

    functions: Mapping[str, Function]
    constants: Mapping[str, object]
    arrays: tuple[type, ...]
    containers: bool
    allowed: str
    check_pair: Callable[[object, object], None] = field(default=_no_check)

    def unknown(self, name: str, variables: Iterable[str] = ()) -> str:
        """Says that `name` is not known and which name is nearest."""
        near = difflib.get_close_matches(name[:60], [*variables, *self.functions, *self.constants], n=1)
        return f"`{name[:60]}` is not a known name" + (f"; the nearest is `{near[0]}`" if near else "")


def under(prefixes: Iterable[str], functions: Mapping[str, Function]) -> dict[str, Function]:
    """The functions under each of the prefixes."""
    return {prefix + name: entry for prefix in prefixes for name, entry in functions.items()}
