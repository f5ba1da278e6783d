"""The fitted bundle: configuration, schema, vocabularies, weights, and what it remembers of users and items."""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import polars as pl
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from intarsia import __version__
from intarsia.config.resolve import dump_yaml
from intarsia.config.schema import PipelineConfig
from intarsia.core.errors import CheckpointError, ConfigError, DataError
from intarsia.core.files import filling, write_json, write_text
from intarsia.data.schema import Schema
from intarsia.evaluation.evaluate import Evaluation
from intarsia.models.base import Model
from intarsia.models.catalogue import build
from intarsia.training.checkpoint import write_tensors

FORMAT = 1
Unknown = Literal["error", "warn", "ignore"]
_KINDS = {
    "rows": ("intarsia.recommender.row_recommender", "RowRecommender"),
    "retrieval": ("intarsia.recommender.retrieval", "RetrievalRecommender"),
    "two_stage": ("intarsia.recommender.two_stage", "TwoStageRecommender"),
}
"""Modules and classes of the kinds of bundle."""


class Recommender(ABC):
    """A trained model with all that it needs to answer in raw ids.

    Made by `intarsia.fit` or `Recommender.load`, not by hand. Models that score rows and models that rank a catalogue
    have the same surface.

    Args:
        config: The resolved pipeline.
        schema: Sizes and names of the data.
        model: The model, in evaluation mode after construction.
        metrics: Values that the model reached when it was trained, by part (`valid`, `test`) and name.
        folder: Folder of the run, None where it was never saved.
    """

    kind: str

    def __init__(
        self,
        config: PipelineConfig,
        schema: Schema,
        model: Model,
        metrics: Mapping[str, Mapping[str, float | None]] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.config, self.schema = config, schema
        self.model = model.eval()
        self.metrics = {part: dict(values) for part, values in (metrics or {}).items()}
        self.folder = folder

    @abstractmethod
    def recommend(
        self,
        users: Sequence[Any] | None = None,
        *,
        history: Sequence[Sequence[Any]] | None = None,
        k: int = 10,
        filter_seen: bool = True,
        candidates: Sequence[Any] | None = None,
        on_unknown: Unknown = "error",
    ) -> pl.DataFrame:
        """The k items that the model scores highest for each user.

        Args:
            users: Raw ids of known users. Give this or `history`.
            history: One list of raw item ids (oldest first) for each person that the model has never seen.
            k: Items for each user.
            filter_seen: Whether items of the user's log (of the given history) are left out.
            candidates: Raw ids of the only items that may be recommended. Default: all.
            on_unknown: What to do about unknown ids. `error`; `warn` (told in a further column `note`); `ignore`.
                Without an error, unknown users get what the model says of somebody without columns or history, and
                unknown items of a history or of the candidates are left out.

        Returns:
            Columns: the user column (or `request`, the number of the history), `rank` from 1, the item column, the
            title where the item table has one, `score`, and perhaps `note`. Fewer than k rows where fewer items are
            left.

        Raises:
            DataError: The data were no log, ids are unknown, k is not positive, or both or none of users and history
                are given.
        """

    @abstractmethod
    def score(self, rows: Any, *, batch_size: int | None = None) -> pl.DataFrame:
        """Predictions for rows of raw columns, in their order."""

    @abstractmethod
    def evaluate(self, data: str | Path | Any | None = None) -> Evaluation:
        """Metrics, on the pipeline's own test part (else its validation part) or on data given."""

    # Bundles

    def save(self, folder: str | Path) -> Path:
        """Writes the bundle: safetensors, Parquet, JSON and YAML, no pickle.

        A bundle that is already there is replaced once all of the new one is on the disk.

        Raises:
            CheckpointError: The disk is full or the folder cannot be written. What was there is untouched.
        """
        folder = Path(folder)
        try:
            with filling(folder, last="bundle.json") as aside:
                self._write(aside)
        except (OSError, pl.exceptions.PolarsError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise CheckpointError(
                f"the bundle {folder} could not be written: {reason}. Free space or choose another folder."
            ) from error
        self.folder = folder
        return folder

    @abstractmethod
    def _write_own(self, folder: Path) -> dict[str, Any]:
        """Writes what this kind holds beside configuration, schema and weights; more entries of `bundle.json`."""

    def _write(self, folder: Path) -> None:
        write_text(folder / "pipeline.yaml", dump_yaml(self.config))
        write_json(folder / "schema.json", self.schema.to_json())
        write_tensors(self.model.state_dict(), folder / "model.safetensors")
        own = self._write_own(folder)
        about = {"format": FORMAT, "kind": self.kind, "intarsia": __version__}
        about |= {"model_class": self.config.model.model_class, "metrics": self.metrics, **own}
        write_json(folder / "bundle.json", about)

    @classmethod
    @abstractmethod
    def _read_own(
        cls, folder: Path, about: Mapping[str, Any], config: PipelineConfig, schema: Schema, model: Model
    ) -> Self:
        """The inverse of `_write_own`; the model has its weights."""

    @staticmethod
    def load(folder: str | Path, *, device: str = "cpu") -> Recommender:
        """Reads a bundle, or the bundle of a run folder.

        Args:
            folder: A bundle, or a run folder that has one.
            device: Where the model goes.

        Raises:
            CheckpointError: There is no bundle, it is damaged, or a version of intarsia wrote it that this one cannot
                read.
        """
        folder = find_bundle(Path(folder))
        about = read_json(folder / "bundle.json")
        if about.get("format") != FORMAT or about.get("kind", "rows") not in _KINDS:
            raise CheckpointError(
                f"{folder} has the bundle format {about.get('format')!r}, written by intarsia {about.get('intarsia')}. "
                f"This version ({__version__}) reads format {FORMAT}. Train anew, or use the version that wrote it."
            )
        module, name = _KINDS[about.get("kind", "rows")]
        owner: type[Recommender] = getattr(importlib.import_module(module), name)
        return owner._load(folder, about, device)

    @classmethod
    def _load(cls, folder: Path, about: Mapping[str, Any], device: str) -> Self:
        """Reads a bundle of this kind."""
        try:
            config, schema, model = _read(folder)
            found = cls._read_own(folder, about, config, schema, model)
        except (ConfigError, DataError, KeyError, TypeError) as error:
            written = about.get("intarsia")
            other = f" (intarsia {written} wrote it, this is {__version__})" if written != __version__ else ""
            first = next((line for line in str(error).splitlines()[1:] if line.strip()), str(error))
            told = (
                first.strip() if str(error).endswith(":") or "problems:" in str(error).splitlines()[0] else str(error)
            )
            raise CheckpointError(
                f"{folder} must hold a whole bundle. Received: {told.splitlines()[0]}{other} Copy or train the bundle "
                "anew; components of your own are imported first (`intarsia --import MODULE ...`)."
            ) from error
        try:
            tensors = load_file(folder / "model.safetensors", device="cpu")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{folder / 'model.safetensors'} must hold the weights. Received: {error}. Copy or train the bundle "
                f"anew."
            ) from None
        _load_state(model, tensors, folder)
        found.model.to(device)
        return found


def _read(folder: Path) -> tuple[PipelineConfig, Schema, Model]:
    """What every bundle holds beside the weights."""
    from intarsia.recommender.pipeline import load_pipeline

    config = load_pipeline(folder / "pipeline.yaml").config
    schema = Schema.from_json(read_json(folder / "schema.json"))
    return config, schema, build(config.model, schema, backend=config.train_config.embedding_backend)


def find_bundle(folder: Path) -> Path:
    """The folder itself or its `bundle`.

    Raises:
        CheckpointError: Neither holds a complete bundle.
    """
    for place in (folder, folder / "bundle"):
        if (place / "bundle.json").exists():
            return place
    what = "does not exist" if not folder.exists() else "holds no complete bundle (bundle.json is written last)"
    raise CheckpointError(f"{folder} {what}. Name the folder of a finished run, or resume its training.")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a bundle.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} must be readable JSON. Received: {error}. Copy or train the bundle anew."
        ) from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object. Received: {type(value).__name__}.")
    return value


def _load_state(model: Model, tensors: Mapping[str, Tensor], folder: Path) -> None:
    own = model.state_dict()
    wrong = [f"`{n}` is missing" for n in own if n not in tensors]
    wrong += [f"`{n}` is not part of the model" for n in tensors if n not in own]
    wrong += [
        f"`{n}` has the shape {tuple(tensors[n].shape)}, the model wants {tuple(own[n].shape)}"
        for n in own
        if n in tensors and tensors[n].shape != own[n].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"the weights of {folder} belong to another model: {'; '.join(wrong[:3])}{more}. Use its own pipeline.yaml."
        )
    model.load_state_dict(dict(tensors))


def listed(values: Any, name: str, what: str) -> list[Any]:
    """The values as a list; a lone value or a text is a mistake."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise DataError(f"`{name}` must be a list of {what}. Received: {values!r}. Put it into a list.")
    return list(values)


def ids_of(values: Any, name: str, what: str) -> list[str]:
    return [str(value) for value in listed(values, name, what)]


def few(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")


def refuse(unknown: Sequence[str], what: str, on_unknown: Unknown) -> None:
    """Raises where there are unknown ids and these are errors."""
    if on_unknown not in get_args(Unknown):
        raise DataError(f"on_unknown must be one of {', '.join(get_args(Unknown))}. Received: {on_unknown!r}.")
    if unknown and on_unknown == "error":
        raise DataError(
            f"{what} must be known to the model. Received {len(unknown)} unknown: {few(unknown)}. Correct them, or "
            f"set "
            "on_unknown to `warn` or `ignore`."
        )


__all__ = ["Recommender", "Unknown", "find_bundle"]
