"""What an optimizer remembers of the rows of one weight.

A large table is rarely read whole: most of its ids are rare. So the state of a large table lies in the order in which
its rows were first updated, and an index tells where. Memory that no row has taken yet is asked for but never touched,
which costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from intarsia.nn.embedding.memory import table_zeros
from intarsia.nn.embedding.rows import read_rows

ROWS = "rows"
"""In a checkpoint: the rows whose state follows, where it is not that of all."""
_LARGE = 1 << 21  # Numbers of a weight from which on its state is kept by first use.


@dataclass(frozen=True)
class Slot:
    """A kind of state: `start` everywhere, one number for each entry of a table or for each of its rows."""

    start: float = 0.0
    row_wise: bool = False


class RowState:
    """State of a weight (num_rows + 1, D) on a device.

    Args:
        weight: The weight. Its last row belongs to nobody.
        kinds: Kinds of state by name.
        arrays: State that lives elsewhere, (num_rows + 1, ...) by name. Default: memory of its own.

    Attributes:
        arrays: (num_rows + 1, D) or (num_rows + 1,) by name; `places` says which entry is whose.
    """

    def __init__(self, weight: Tensor, kinds: Mapping[str, Slot], arrays: Mapping[str, Tensor] | None = None) -> None:
        self.kinds = dict(kinds)
        by_use = arrays is None and weight.device.type == "cpu" and weight.numel() >= _LARGE and bool(kinds)
        # The place of each row, 0 where it has none yet: place 0 itself is never given away.
        self._index = torch.zeros(weight.shape[0], dtype=torch.int32) if by_use else None
        self._taken = 1
        if arrays is None:
            shapes = {name: weight.shape[:1] if kind.row_wise else weight.shape for name, kind in kinds.items()}
            arrays = {name: table_zeros(shape, weight.device) for name, shape in shapes.items()}
        self.arrays = dict(arrays)
        if self._index is None and any(kind.start != 0.0 for kind in kinds.values()):
            self.forget()

    def places(self, rows: Tensor) -> Tensor:
        """(R,) int64 entries of `arrays` that belong to rows (R,), all different; new rows get their start there."""
        if self._index is None:
            return rows
        at = self._index.index_select(0, rows).long()
        new = (at == 0).nonzero()[:, 0]
        if len(new):
            fresh = torch.arange(self._taken, self._taken + len(new))
            at[new] = fresh
            self._index.index_copy_(0, rows[new], fresh.int())
            self._start(slice(self._taken, self._taken + len(new)))
            self._taken += len(new)
        return at

    def saved(self, start: int, stop: int) -> dict[str, Tensor]:
        """State of the rows from `start` up to `stop`: of all, as views, or of those that `rows` counts from there."""
        if self._index is None:
            return {name: values[start:stop] for name, values in self.arrays.items()}
        at = self._index[start:stop]
        rows = at.nonzero()[:, 0]
        at = at[rows].long()
        return {ROWS: rows} | {name: read_rows(values, at) for name, values in self.arrays.items()}

    def mismatches(self, start: int, stop: int, found: Mapping[str, Tensor]) -> list[str]:
        """What is wrong with the saved state of these rows, in words."""
        out = [f"`{name}`: unknown" for name in found if name not in self.arrays and name != ROWS]
        rows = found.get(ROWS)
        count = stop - start if rows is None else len(rows)
        if rows is not None and len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < stop - start:
            out.append(f"`{ROWS}`: expected numbers below {stop - start}, found up to {int(rows.max())}")
        for name, values in self.arrays.items():
            expected = (count, *values.shape[1:])
            shape = tuple(found[name].shape) if name in found else None
            if shape != expected:
                out.append(f"`{name}`: expected shape {expected}, found {shape}")
        return out

    def forget(self) -> None:
        """Puts all rows back to their start."""
        if self._index is None:
            self._start(slice(None))
            return
        self._index.zero_()
        self._taken = 1

    def load(self, start: int, stop: int, found: Mapping[str, Tensor]) -> None:
        """Takes over what `saved` gave, after `forget`."""
        rows = found[ROWS].to(torch.int64) if ROWS in found else torch.arange(stop - start)
        device = next(iter(self.arrays.values())).device if self.arrays else None
        at = self.places((rows + start).to(device))
        for name, values in self.arrays.items():
            values.index_copy_(0, at, found[name].to(values.device, values.dtype))

    def _start(self, part: slice) -> None:
        for name, kind in self.kinds.items():
            self.arrays[name][part].fill_(kind.start)
