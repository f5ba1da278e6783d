"""Fine-tuning: starting from the weights of another run, as far as they fit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from intarsia.core.errors import CheckpointError
from intarsia.training.checkpoint import MODEL_FILE, STATE_FILE, latest, read_state, read_tensors


@dataclass(frozen=True)
class RestoreReport:
    """What a fine-tuning run started from.

    Attributes:
        source: The file that was read.
        restored: Names here whose values were read.
        resized: Of these, those that were cut or padded, with both shapes in words.
        missing: Names here that the source does not have; they keep their initial values.
        skipped: Names here that `restore_filters` left out.
        unused: Names of the source that nothing here asked for.
    """

    source: Path
    restored: tuple[str, ...]
    resized: tuple[str, ...]
    missing: tuple[str, ...]
    skipped: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.restored)} tensors restored from {self.source}"]
        for word in ("resized", "missing", "skipped", "unused"):
            names: tuple[str, ...] = getattr(self, word)
            if names:
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                lines.append(f"{len(names)} {word}: {', '.join(names[:5])}{more}")
        return "\n".join(lines)


def restore(
    model: nn.Module,
    source: str | Path,
    var_map: Mapping[str, str] | str | Path | None = None,
    restore_filters: Sequence[str] = (),
    force_shape_compatible: bool = False,
) -> RestoreReport:
    """Fills `model` with the tensors of another run that have its names.

    Args:
        model: Filled in place.
        source: A run folder (its latest checkpoint is taken), a checkpoint folder, a bundle, or a safetensors file.
        var_map: Name here to name in the source; or a file with lines `name here TAB name in the source`. Names that
            it does not list stand for themselves.
        restore_filters: Regular expressions, searched in names here; what matches keeps its initial values.
        force_shape_compatible: Whether a tensor with another size is cut, or filled as far as it reaches with the
            rest left at its initial values, instead of being an error. The number of dimensions must agree.

    Returns:
        What was restored and what was not.

    Raises:
        CheckpointError: The source is not there or damaged; nothing in it fits; shapes differ; the map is wrong.
    """
    file, there = _read(Path(source))
    here = model.state_dict()
    names = var_map if isinstance(var_map, Mapping) else read_var_map(var_map) if var_map else {}
    _check_map(names, here, there)
    filters = [re.compile(pattern) for pattern in restore_filters]
    skipped = [name for name in here if any(pattern.search(name) for pattern in filters)]
    wanted = {name: names.get(name, name) for name in here if name not in set(skipped)}
    found = {name: there[old] for name, old in wanted.items() if old in there}
    if not found:
        raise CheckpointError(
            f"Fine-tuning needs at least one tensor of the model in {file}. Received {len(there)} tensors, none with a "
            f"name of this model: {', '.join(list(there)[:3])}, ... against {', '.join(list(here)[:3])}, ... "
            "Name the pairs in `fine_tune_ckpt_var_map`."
        )
    resized = _check_shapes(found, here, force_shape_compatible)
    with torch.no_grad():
        values = {name: _fitted(here[name], tensor) for name, tensor in found.items()}
    model.load_state_dict(values, strict=False)
    used = set(wanted.values())
    return RestoreReport(
        source=file,
        restored=tuple(found),
        resized=tuple(resized),
        missing=tuple(name for name in wanted if name not in found),
        skipped=tuple(skipped),
        unused=tuple(name for name in there if name not in used),
    )


def read_var_map(path: str | Path) -> dict[str, str]:
    """The pairs of a names file: one `name here TAB name in the checkpoint` a line; blank lines are passed over.

    Raises:
        CheckpointError: The file is not there, a line has no two names, or a name is written twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CheckpointError(f"`fine_tune_ckpt_var_map` names a file. Received {path}: {error}.") from error
    pairs: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        words = [word.strip() for word in line.split("\t")]
        if len(words) != 2 or not all(words):
            raise CheckpointError(
                f"{path}:{number}: a line is `name here TAB name in the checkpoint`. Received {line!r}."
            )
        if words[0] in pairs:
            raise CheckpointError(f"{path}:{number}: `{words[0]}` is mapped twice. Keep one of the lines.")
        pairs[words[0]] = words[1]
    return pairs


def find_weights(source: Path) -> Path:
    """The safetensors file that a run folder, checkpoint folder, bundle or file name stands for.

    Raises:
        CheckpointError: There is none.
    """
    if source.is_file():
        return source
    if (source / MODEL_FILE).is_file():
        return source / MODEL_FILE
    newest = latest(source)
    if newest is not None:
        return newest / MODEL_FILE
    raise CheckpointError(
        f"`fine_tune_checkpoint` names a run folder, a checkpoint, a bundle or a safetensors file. Received {source}, "
        + ("which holds none." if source.exists() else "which does not exist.")
    )


def _read(source: Path) -> tuple[Path, dict[str, Tensor]]:
    file = find_weights(source)
    aliases: Mapping[str, str] = {}
    if file.name == MODEL_FILE and (file.parent / STATE_FILE).is_file():
        aliases = read_state(file.parent).get("aliases", {})
    tensors = read_tensors(file)
    tensors.update({name: tensors[same] for name, same in aliases.items()})
    return file, tensors


def _check_map(names: Mapping[str, str], here: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> None:
    for left, right in names.items():
        for name, known, place in ((left, here, "this model"), (right, there, "the checkpoint")):
            if name not in known:
                near = difflib.get_close_matches(name, known, 3, 0.5)
                hint = f"Nearest: {', '.join(near)}." if near else f"It has {', '.join(list(known)[:5])}, ..."
                raise CheckpointError(
                    f"`fine_tune_ckpt_var_map` maps `{left}` to `{right}`, but {place} has no `{name}`. {hint}"
                )


def _check_shapes(found: Mapping[str, Tensor], here: Mapping[str, Tensor], force: bool) -> list[str]:
    other = {name: tensor for name, tensor in found.items() if tensor.shape != here[name].shape}
    words = {name: f"{name} {tuple(tensor.shape)} -> {tuple(here[name].shape)}" for name, tensor in other.items()}
    refused = [name for name, tensor in other.items() if not force or tensor.ndim != here[name].ndim]
    if refused:
        cure = (
            "Even `force_restore_shape_compatible` needs the same number of dimensions."
            if force
            else "Set `force_restore_shape_compatible: true` to cut or pad, or leave them out with `restore_filters`."
        )
        shown = "\n  ".join(words[name] for name in refused[:5])
        raise CheckpointError(f"Tensors to restore have other shapes ({len(refused)}):\n  {shown}\n{cure}")
    return list(words.values())


def _fitted(mine: Tensor, other: Tensor) -> Tensor:
    if mine.shape == other.shape:
        return other
    value = mine.detach().clone()
    common = tuple(slice(0, min(a, b)) for a, b in zip(mine.shape, other.shape))
    value[common] = other[common].to(value.device, value.dtype)
    return value
