"""What commands that read a pipeline have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from intarsia.config.load import LoadedConfig

Pipeline = Annotated[str, typer.Argument(help="Pipeline file.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="PATH=VALUE", help="Values to set.")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="PATH=VALUE", help="Set a value of the pipeline, such as train_config.num_steps=100."
    ),
]
Data = Annotated[
    str | None, typer.Option("--data", help="Catalogued data set, where a model is named instead of a file.")
]


def load_any(pipeline: str, overrides: Sequence[str], data: str | None = None) -> LoadedConfig:
    """A pipeline file, the pipeline of a run folder, or the short form of a model's name and a data set.

    Raises:
        ConfigError: Everything that is wrong with it.
    """
    from intarsia.core.errors import ConfigError

    wrong = [text for text in overrides if "=" not in text]
    if wrong:
        raise ConfigError(f"values are set as PATH=VALUE. Received: {', '.join(wrong)}")
    from intarsia.recommender.pipeline import load_pipeline, short_form

    if data is not None:
        return short_form(pipeline, data, overrides)
    path = Path(pipeline)
    if path.is_dir():
        found = next((p for p in (path / "pipeline.yaml", path / "bundle" / "pipeline.yaml") if p.exists()), None)
        if found is None:
            raise ConfigError(f"{path} is a folder without pipeline.yaml. Name a pipeline file or the folder of a run.")
        return load_pipeline(found, overrides)
    if not path.suffix and not path.exists():
        raise ConfigError(
            f"`{pipeline}` is no pipeline file. The short form names a data set too: {pipeline} --data ml-100k"
        )
    return load_pipeline(path, overrides)


def tell_notices(loaded: LoadedConfig) -> None:
    """Remarks on the pipeline file, on standard error."""
    from intarsia.cli.output import note

    for notice in loaded.notices:
        note(notice)
