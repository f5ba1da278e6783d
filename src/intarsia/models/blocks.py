"""Short ways to write blocks, for models that are expanded into a backbone."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from intarsia.config.schema import Backbone, ModelConfig
from intarsia.core.errors import BuildError, Problem
from intarsia.core.params import StrictModel


def block(name: str, *inputs: dict[str, Any], **operation: Any) -> dict[str, Any]:
    """A block: its name, its inputs, its operation."""
    return {"name": name, "inputs": list(inputs), **operation}


def group(name: str) -> dict[str, Any]:
    """An input: a feature group."""
    return {"feature_group_name": name}


def output(name: str, **transform: Any) -> dict[str, Any]:
    """An input: the output of a block, perhaps through `input_slice` or `input_fn`."""
    return {"block_name": name, **transform}


def layer(class_name: str, **options: Any) -> dict[str, Any]:
    """A component with its options."""
    return {"class_name": class_name, "st_params": options}


def message(config: ModelConfig, model: type[Any]) -> Any:
    """The model's own message, checked; with defaults where the file has none.

    Raises:
        BuildError: The message does not fit its schema.
    """
    name = model.__module__.rsplit(".", 1)[-1]
    given = (config.model_extra or {}).get(name, {})
    if isinstance(given, StrictModel):
        return given
    try:
        return model.Config.model_validate(given)
    except ValidationError as error:
        raise BuildError(
            [
                Problem(
                    "",
                    ".".join([f"model_config.{name}", *(str(part) for part in e["loc"])]),
                    f"{e['msg']}. Received: {e.get('input')!r}",
                )
                for e in error.errors()
            ]
        ) from None


def as_backbone(
    config: ModelConfig, blocks: list[dict[str, Any]], concat: str, l2_regularization: float
) -> ModelConfig:
    """The configuration with its message replaced by blocks.

    Raises:
        BuildError: The configuration has a backbone of its own.
    """
    if config.backbone is not None:
        message = f"`{config.model_class}` brings its own blocks. Remove the backbone, or set model_class: RankModel"
        raise BuildError([Problem("", "model_config.backbone", message)])
    backbone = Backbone.model_validate({"blocks": blocks, "concat_blocks": [concat]})
    params = config.model_params.model_copy(update={"l2_regularization": l2_regularization})
    fields = {name: getattr(config, name) for name in ModelConfig.model_fields}
    return ModelConfig.model_construct(**{**fields, "backbone": backbone, "model_params": params})


def require_groups(config: ModelConfig, *names: str) -> set[str]:
    """Names of the configuration's groups.

    Raises:
        BuildError: One of `names` is missing.
    """
    have = {g.group_name for g in config.feature_groups}
    missing = [name for name in names if name not in have]
    if missing:
        raise BuildError(
            [
                Problem(
                    "",
                    "model_config.feature_groups",
                    f"`{config.model_class}` needs the feature groups {', '.join(names)}. "
                    f"Missing: {', '.join(missing)}",
                )
            ]
        )
    return have
