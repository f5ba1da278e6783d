"""Checkpoints: folders that are whole or not there.

    <run>/checkpoints/step-00000100/
        model.safetensors      the weights and buffers by name
        optimizer.safetensors  tensors of the optimizers, averages and random generators
        state.json             format, step, position in the data, metrics, and size and digest of the other two

A checkpoint is written into a folder with another name, flushed to disk, and renamed as a whole. A crash or a full
disk at any moment leaves the earlier checkpoints as they were.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from intarsia.core.errors import CheckpointError
from intarsia.training.encoding import Tree, flatten, unflatten

FORMAT = 1
MODEL_FILE, OPTIMIZER_FILE, STATE_FILE = "model.safetensors", "optimizer.safetensors", "state.json"
_NAME = re.compile(r"step-(\d{8,})")
_SHOWN = 5


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        run_dir: The run's folder.
        keep: Latest checkpoints that are kept; others may be named at each `save`.
    """

    def __init__(self, run_dir: str | Path, keep: int = 10) -> None:
        self.folder = Path(run_dir) / "checkpoints"
        self.keep = keep

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, growing."""
        if not self.folder.is_dir():
            return []
        found = ((_NAME.fullmatch(path.name), path) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match, path in found if match and (path / STATE_FILE).is_file())

    def path(self, step: int) -> Path:
        """Folder of one checkpoint."""
        return self.folder / f"step-{step:08d}"

    def latest(self) -> Path | None:
        """The newest complete checkpoint."""
        steps = self.steps()
        return self.path(steps[-1]) if steps else None

    def save(
        self, step: int, model: nn.Module, optimizer: Tree, state: Mapping[str, Any], protect: Iterable[int] = ()
    ) -> Path:
        """Writes one checkpoint and removes those that are neither among the newest `keep` nor protected.

        Args:
            step: Updates done.
            model: Its `state_dict` is written.
            optimizer: Tree of tensors and numbers.
            state: Plain data for state.json.
            protect: Steps of checkpoints that stay, such as the best one.

        Raises:
            CheckpointError: It cannot be written. The earlier checkpoints are untouched.
        """
        target, aside = self.path(step), self.folder / f".step-{step:08d}.part"
        weights, aliases = _without_aliases(model.state_dict())
        plain, tensors = flatten(optimizer)
        needed = sum(t.numel() * t.element_size() for t in (*weights.values(), *tensors.values()))
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            write_tensors(weights, aside / MODEL_FILE)
            write_tensors(tensors, aside / OPTIMIZER_FILE)
            head = {"format": FORMAT, "step": step, "versions": versions(), "signature": signature(model)}
            head["files"] = {name: fingerprint(aside / name) for name in (MODEL_FILE, OPTIMIZER_FILE)}
            content = {**head, **state, "aliases": aliases, "optimizer": plain}
            text = json.dumps({"digest": _digest(content), **content})
            (aside / STATE_FILE).write_text(text, encoding="utf-8")
            for path in (*aside.iterdir(), aside):
                _flush(path)
            _rename(aside, target)
            _flush(self.folder)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            raise CheckpointError(self._why_not_saved(error, step, needed)) from error
        self._prune({*protect, step})
        return target

    def clear_leftovers(self) -> None:
        """Removes what a killed process left half written, and puts back what it was replacing."""
        if not self.folder.is_dir():
            return
        for path in self.folder.glob(".step-*.*"):
            target = self.folder / path.stem.removeprefix(".")
            if path.suffix == ".old" and not target.exists():
                os.replace(path, target)
            else:
                shutil.rmtree(path, ignore_errors=True)

    def _prune(self, protect: set[int]) -> None:
        steps = self.steps()
        for step in set(steps[: -self.keep]) - protect:
            # Renamed first, so that a folder with a checkpoint's name is never half removed.
            doomed = self.folder / f".step-{step:08d}.doomed"
            try:
                os.replace(self.path(step), doomed)
            except OSError:
                continue
            shutil.rmtree(doomed, ignore_errors=True)

    def _why_not_saved(self, error: OSError, step: int, needed: int) -> str:
        newest = self.latest()
        kept = f"The latest good one is {newest}." if newest else "There is no earlier one."
        if error.errno == errno.ENOSPC:
            free = shutil.disk_usage(self.folder).free
            return (
                f"The checkpoint of step {step} needs {in_words(needed)} of disk space in {self.folder}. "
                f"Received: no space left on device, {in_words(free)} are free. {kept} Free some space or lower "
                "`train_config.keep_checkpoint_max`, and resume."
            )
        return f"The checkpoint of step {step} ({in_words(needed)}) cannot be written: {error}. {kept}"


def latest(run_dir: str | Path) -> Path | None:
    """The newest complete checkpoint of a run, or None. Half-written folders are passed over."""
    return CheckpointStore(run_dir).latest()


def read_state(folder: Path) -> dict[str, Any]:
    """state.json of a checkpoint, after checking its format and the size and digest of the tensor files.

    Raises:
        CheckpointError: Something is missing, cut, garbled, or of another format.
    """
    try:
        state = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
        found, digest = state["format"], state.pop("digest")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"A checkpoint needs a readable {STATE_FILE}. Received {folder / STATE_FILE}: {error}. {_CURE}"
        ) from error
    if found != FORMAT:
        raise CheckpointError(
            f"This version of intarsia reads checkpoints of format {FORMAT}. Received format {found} in {folder}, "
            f"written by {state.get('versions', {}).get('intarsia', 'an unknown version')}. Resume with that version."
        )
    if _digest(state) != digest:
        raise CheckpointError(f"{folder / STATE_FILE} is damaged: its digest is not the one that it names. {_CURE}")
    for name, expected in state["files"].items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != expected["bytes"]:
            received = "no file" if size is None else f"{size} bytes"
            raise CheckpointError(
                f"{path} is damaged: it should have {expected['bytes']} bytes. Received {received}. {_CURE}"
            )
        if fingerprint(path) != expected:
            raise CheckpointError(f"{path} is damaged: its digest is not the one in {STATE_FILE}. {_CURE}")
    return dict(state)


_CURE = "Remove this checkpoint's folder to go on from the one before it."


def load_model(model: nn.Module, folder: Path, state: Mapping[str, Any] | None = None) -> None:
    """Fills `model` with the weights of a checkpoint.

    Raises:
        CheckpointError: Damaged, or of another model: the first differences are listed.
    """
    state = read_state(folder) if state is None else state
    weights = read_tensors(folder / MODEL_FILE)
    for name, same in state.get("aliases", {}).items():
        weights[name] = weights[same]
    problems = differences(model.state_dict(), weights)
    if problems:
        shown = "\n  ".join(problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise CheckpointError(
            f"The checkpoint {folder} is of another model; {len(problems)} tensors differ:\n  {shown}{more}\n"
            "Use the configuration that the run was started with, or `fine_tune_checkpoint` to carry over what fits."
        )
    model.load_state_dict(weights)


def load_optimizer(folder: Path, state: Mapping[str, Any]) -> Tree:
    """The optimizer tree that was saved."""
    return unflatten(state["optimizer"], read_tensors(folder / OPTIMIZER_FILE))


def differences(here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> list[str]:
    """One line for each tensor that the two do not share with the same shape and type."""
    lines = []
    for name in [*here, *(name for name in there if name not in here)]:
        mine, other = here.get(name), there.get(name)
        if mine is None or other is None or mine.shape != other.shape or mine.dtype != other.dtype:
            lines.append(f"{name}: {_describe(mine)} here, {_describe(other)} in the checkpoint")
    return lines


def _describe(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def signature(model: nn.Module) -> str:
    """A digest of the names, shapes and types of a model's tensors."""
    import xxhash

    lines = [f"{name} {_describe(tensor)}" for name, tensor in model.state_dict().items()]
    return str(xxhash.xxh3_128_hexdigest("\n".join(lines).encode()))


def _digest(content: Mapping[str, Any]) -> str:
    import xxhash

    return str(xxhash.xxh3_128_hexdigest(json.dumps(content).encode()))


def fingerprint(path: Path) -> dict[str, int | str]:
    """Size and digest of a file."""
    import xxhash

    digest, size = xxhash.xxh3_128(), 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
            size += len(block)
    return {"bytes": size, "xxh3_128": digest.hexdigest()}


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """One safetensors file, written tensor by tensor: no second copy of all weights is made in memory.

    Layout: length of the header (8 bytes, little-endian), the header as JSON, the tensors' bytes; wide types first,
    so that all lie aligned.
    """
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, dict[str, Any]] = {}
    offset = 0
    for name in names:
        tensor = tensors[name]
        end = offset + tensor.nbytes
        header[name] = {
            "dtype": _TYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in names:
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)


_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"A safetensors file is needed. Received {path}, unreadable: {error}.") from error


def versions() -> dict[str, str]:
    """Versions of what a checkpoint's numbers depend on."""
    from importlib.metadata import PackageNotFoundError, version

    import numpy as np

    try:
        own = version("intarsia")
    except PackageNotFoundError:
        own = "source"
    return {
        "intarsia": own,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def in_words(size: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _without_aliases(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tied tensors once, with the other names beside: {other name: name that is written}."""
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[object, ...], str] = {}
    for name, tensor in weights.items():
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)
        if tensor.numel() and key in first:
            aliases[name] = first[key]
        else:
            first[key] = name
            kept[name] = tensor.detach()
    return kept, aliases


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _rename(aside: Path, target: Path) -> None:
    if target.exists():
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        os.replace(target, old)
        os.replace(aside, target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(aside, target)
