"""Nested values as plain JSON plus named tensors, and the random states in that form: nothing is pickled."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

Tree = Any
"""Nested dicts, lists and tuples of tensors, numbers, words and None."""

_TENSOR = "$tensor"
_ITEMS = "$items"


def flatten(tree: Tree, path: str = "") -> tuple[Any, dict[str, Tensor]]:
    """Splits a tree into JSON, where every tensor is replaced by its name, and the tensors by name.

    Tuples come back as lists, and dicts keep keys that are integers.

    Raises:
        TypeError: The tree holds something that is neither.
    """
    tensors: dict[str, Tensor] = {}

    def visit(value: Tree, where: str) -> Any:
        if isinstance(value, Tensor):
            while where in tensors:  # {"a.b": x, "a": {"b": y}}
                where += "'"
            tensors[where] = value.detach()
            return {_TENSOR: where}
        if isinstance(value, Mapping):
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {key: visit(item, f"{where}.{key}" if where else key) for key, item in value.items()}
            return {
                _ITEMS: [[key, visit(item, f"{where}.{key}" if where else str(key))] for key, item in value.items()]
            }
        if isinstance(value, list | tuple):
            return [visit(item, f"{where}.{index}" if where else str(index)) for index, item in enumerate(value)]
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(f"a checkpoint holds tensors, numbers and words. Received {type(value).__name__} at `{where}`.")

    return visit(tree, path), tensors


def unflatten(plain: Any, tensors: Mapping[str, Tensor]) -> Tree:
    """The inverse of `flatten`."""
    if isinstance(plain, dict):
        if _TENSOR in plain:
            return tensors[plain[_TENSOR]]
        if _ITEMS in plain:
            return {key: unflatten(item, tensors) for key, item in plain[_ITEMS]}
        return {key: unflatten(item, tensors) for key, item in plain.items()}
    if isinstance(plain, list):
        return [unflatten(item, tensors) for item in plain]
    return plain


def random_state() -> dict[str, Tree]:
    """The states of Python's, NumPy's (global) and torch's generators, the GPUs' included, as a tree."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    state: dict[str, Tree] = {
        "python": {"version": version, "words": torch.tensor(words, dtype=torch.int64), "gauss": gauss},
        "numpy": {
            "name": str(name),
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: Mapping[str, Tree]) -> None:
    """Puts the generators back to what `random_state` saw."""
    python, numpy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    keys = numpy["keys"].numpy().astype(np.uint32)
    np.random.set_state(  # noqa: NPY002
        (numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["cached"])
    )
    torch.set_rng_state(state["torch"].to("cpu", torch.uint8))
    if "cuda" in state and torch.cuda.is_available():
        for device, one in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(one, device)
