"""What the tables are and who looks them up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from intarsia.core.errors import BuildError, Problem
from intarsia.nn.component import nearest

Pooling: TypeAlias = Literal["none", "sum", "mean", "sqrtn", "min", "max"]


@dataclass(frozen=True)
class TableSpec:
    """One table.

    Attributes:
        name: Unique name; the table's key in checkpoints.
        num_rows: Rows, at least 1.
        dim: D, numbers in one row.
        initializer: The `Initializer` message as plain data. Default: truncated normal, standard deviation 1/sqrt(D).
        group: `wide` or `deep`, so that an optimizer can be told which tables are its own.
    """

    name: str
    num_rows: int
    dim: int
    initializer: Mapping[str, Any] | None = None
    group: str = "deep"


@dataclass(frozen=True)
class Lookup:
    """One reading of a table by a feature.

    Attributes:
        key: Name of the result.
        feature: Feature of the batch that holds the ids.
        table: Name of the table.
        pooling: How the vectors of a row of a `Jagged` feature become one; `none` keeps them as a sequence. A `Dense`
            feature has one id a row, and nothing is pooled.
        step_pooling: The same for the ids of one step, where steps hold several.
    """

    key: str
    feature: str
    table: str
    pooling: Pooling = "sum"
    step_pooling: Pooling = "sum"


def check(tables: Sequence[TableSpec], lookups: Sequence[Lookup]) -> None:
    """Reports everything that is wrong with the tables and lookups of a collection at once.

    Raises:
        BuildError: A name is used twice, a size is below 1, or a lookup names an unknown table or pooling.
    """
    problems = [
        f"table names are unique. Received `{name}` {count} times" for name, count in _repeated(t.name for t in tables)
    ]
    problems += [
        f"lookup keys are unique. Received `{key}` {count} times" for key, count in _repeated(k.key for k in lookups)
    ]
    for table in tables:
        if table.num_rows < 1 or table.dim < 1:
            problems.append(
                f"table `{table.name}`: `num_rows` and `dim` are at least 1. "
                f"Received num_rows={table.num_rows}, dim={table.dim}"
            )
        if not table.group.isidentifier():
            problems.append(f"table `{table.name}`: `group` is a plain word such as deep. Received {table.group!r}")
    names = {table.name for table in tables}
    for lookup in lookups:
        if lookup.table not in names:
            known = nearest(lookup.table, names) if names else "There are no tables."
            problems.append(f"lookup `{lookup.key}`: no table is called `{lookup.table}`. {known}")
        for field in ("pooling", "step_pooling"):
            value = getattr(lookup, field)
            if value not in get_args(Pooling):
                known = ", ".join(get_args(Pooling))
                problems.append(f"lookup `{lookup.key}`: `{field}` is one of {known}. Received {value!r}")
    if problems:
        raise BuildError([Problem("", "", message) for message in problems])


def _repeated(names: Iterable[str]) -> list[tuple[str, int]]:
    return [(name, count) for name, count in Counter(names).items() if count > 1]
