"""All embedding tables of a model, and everything that looks them up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from intarsia.core.batch import Feature, Jagged
from intarsia.core.errors import BuildError
from intarsia.nn.component import nearest
from intarsia.nn.embedding.fbgemm import fbgemm_problem
from intarsia.nn.embedding.fused import Engine, FusedLookups, FusedTable, torch_engine
from intarsia.nn.embedding.initial import initialize_table_
from intarsia.nn.embedding.memory import table_zeros
from intarsia.nn.embedding.spec import Lookup, TableSpec, check

Backend = Literal["auto", "torch", "fbgemm"]


class EmbeddingCollection(nn.Module):
    """Named tables and the features that read them.

    Tables of one width and group lie in one weight, so a batch costs a few large reads, however many features there
    are. Gradients hold the rows of the batch only; `make_table_optimizer` applies them. In `state_dict` every table
    has its own entry `tables.<name>` of shape (num_rows, D): checkpoints do not depend on how tables are fused.

    Missing ids (-1 in a `Dense` feature) and rows without values give zeros and receive no gradient. Vectors are
    float32, also under autocast.

    Pooling of a jagged row with ids i, weights w (1 where there are none) and vectors e:
        sum:    sum of w_i e_i
        mean:   sum of w_i e_i / sum of w_i          (values with w_i <= 0 are left out)
        sqrtn:  sum of w_i e_i / sqrt(sum of w_i^2)  (likewise)
        min, max: of each of the D numbers; weights do not count

    Args:
        tables: The tables.
        lookups: Who reads them. The same table may be read by any number of lookups.
        backend: `torch`; `fbgemm` to update tables inside the backward pass with FBGEMM's kernels; `auto` for FBGEMM
            where it is installed, knows the optimizer, and was measured faster.
        generator: Source of the initial values. Default: torch's global one. Tables draw in the order given.

    Raises:
        BuildError: A name is used twice or unknown, a size is wrong, or the backend cannot hold a table.
        MissingExtraError: `backend="fbgemm"` without FBGEMM.
    """

    def __init__(
        self,
        *,
        tables: Sequence[TableSpec],
        lookups: Sequence[Lookup],
        backend: Backend = "torch",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check(tables, lookups)
        if backend not in ("auto", "torch", "fbgemm"):
            raise BuildError(f"`backend` is auto, torch or fbgemm. Received {backend!r}")
        self.backend = backend
        self.lookups = tuple(lookups)
        self._specs = {table.name: table for table in tables}
        self._frozen: set[str] = set()
        kinds: dict[tuple[str, int], list[TableSpec]] = {}
        for table in tables:
            kinds.setdefault((table.group, table.dim), []).append(table)
        self.fused = {table.name: table for table in (FusedTable.of(*kind, members) for kind, members in kinds.items())}
        self._home = {spec.name: fused for fused in self.fused.values() for spec in fused.tables}
        self._engines: dict[str, Engine] = {}
        if backend == "fbgemm":
            self._require_fbgemm()
        for name, fused in self.fused.items():
            self.register_parameter(name, nn.Parameter(table_zeros((fused.num_rows + 1, fused.dim))))
        self.reset_parameters(generator)
        self._route()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draws all tables anew, in the order they were given in."""
        with torch.no_grad():
            for fused in self.fused.values():
                self.fused_weight(fused.name)[fused.num_rows].zero_()
            for name, spec in self._specs.items():
                weight = self.weight(name)
                if not weight.is_meta:
                    initialize_table_(weight, spec, generator)

    def forward(self, features: Mapping[str, Feature]) -> dict[str, Tensor | Jagged]:
        """Looks up all features.

        Args:
            features: `Dense` (B,) or `Jagged` (S,) ids by feature name.

        Returns:
            By lookup key: (B, D) vectors, or with pooling `none` the steps of a `Jagged` feature as `Jagged` (S, D).

        Raises:
            DataError: A feature is missing, is not made of ids, or has an id outside its table.
        """
        out: dict[str, Tensor | Jagged] = {}
        for lookups, frozen in self._routes:
            weight = self.fused_weight(lookups.table.name)
            if frozen or not torch.is_grad_enabled():
                out.update(lookups(features, weight.detach(), torch_engine))
            else:
                out.update(lookups(features, weight, self._engines.get(lookups.table.name, torch_engine)))
        return {lookup.key: out[lookup.key] for lookup in self.lookups}

    @property
    def table_names(self) -> tuple[str, ...]:
        """Names of the tables, in the order given."""
        return tuple(self._specs)

    def spec(self, name: str) -> TableSpec:
        """The table of that name.

        Raises:
            BuildError: There is none.
        """
        if name not in self._specs:
            raise BuildError(f"no table is called `{name}`. {nearest(name, self._specs)}")
        return self._specs[name]

    def weight(self, name: str) -> Tensor:
        """(num_rows, D) view of one table, detached: to read, or to change in place, never to train through.

        Raises:
            BuildError: There is no such table.
        """
        spec = self.spec(name)
        fused = self._home[name]
        return fused.rows(self.fused_weight(fused.name).detach(), spec)

    def fused_weight(self, name: str) -> nn.Parameter:
        """The weight of one entry of `fused`."""
        return self.get_parameter(name)

    def freeze(self, table_names: Iterable[str], frozen: bool = True) -> None:
        """Stops training of the given tables, or takes it up again.

        Args:
            table_names: Names of tables.
            frozen: False thaws.

        Raises:
            BuildError: There is no such table.
        """
        names = {self.spec(name).name for name in table_names}
        self._frozen = self._frozen | names if frozen else self._frozen - names
        self._route()

    @property
    def frozen(self) -> frozenset[str]:
        """Names of the tables that are not trained."""
        return frozenset(self._frozen)

    def set_engine(self, name: str, engine: Engine | None) -> None:
        """What reads a fused weight in training; None for plain torch. Called by table optimizers."""
        self._engines.pop(name, None)
        if engine is not None:
            self._engines[name] = engine

    def engine(self, name: str) -> Engine | None:
        """The engine that an optimizer has set."""
        return self._engines.get(name)

    def extra_repr(self) -> str:
        """One line for each table."""
        return "\n".join(f"{t.name}: {t.num_rows} x {t.dim} ({t.group})" for t in self._specs.values())

    def _route(self) -> None:
        self._routes: list[tuple[FusedLookups, bool]] = []
        for name, fused in self.fused.items():
            names = {table.name for table in fused.tables}
            self.fused_weight(name).requires_grad_(not names <= self._frozen)
            for frozen in (False, True):
                chosen = [k for k in self.lookups if k.table in names and (k.table in self._frozen) is frozen]
                if chosen:
                    self._routes.append((FusedLookups(fused, chosen), frozen))

    def _require_fbgemm(self) -> None:
        for fused in self.fused.values():
            problem = fbgemm_problem(dim=fused.dim)
            if problem is not None:
                names = ", ".join(f"`{table.name}`" for table in fused.tables)
                raise BuildError(f"backend `fbgemm`, tables {names}: {problem}")

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name in self._specs:
            destination[f"{prefix}tables.{name}"] = self.weight(name)

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Tensor],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        keys = {f"{prefix}tables.{name}": spec for name, spec in self._specs.items()}
        for key, spec in keys.items():
            value = state_dict.get(key)
            if value is None:
                missing_keys.append(key)
            elif tuple(value.shape) != (spec.num_rows, spec.dim):
                error_msgs.append(
                    f"the table `{spec.name}` has {spec.num_rows} rows of {spec.dim} numbers. Found `{key}` of shape "
                    f"{tuple(value.shape)}. Load it into a model with the same vocabulary sizes and embedding_dim"
                )
            else:
                self._fill(spec, value, allocate=bool(local_metadata.get("assign_to_params_buffers", False)))
        if strict:
            unexpected_keys.extend(key for key in state_dict if key.startswith(prefix) and key not in keys)

    def _fill(self, spec: TableSpec, value: Tensor, allocate: bool) -> None:
        name = self._home[spec.name].name
        weight = self.fused_weight(name)
        if weight.is_meta and allocate:
            fresh = nn.Parameter(table_zeros(weight.shape, value.device))
            fresh.requires_grad_(weight.requires_grad)
            self.register_parameter(name, fresh)
        with torch.no_grad():
            self.weight(spec.name).copy_(value)
