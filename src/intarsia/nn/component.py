"""What every component has in common: it can be built from the shapes of its inputs, and names its kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Protocol, Self, TypeAlias, runtime_checkable

from pydantic import BaseModel, Field, ValidationError
from torch import Tensor, nn

from intarsia.core.errors import BuildError, Problem
from intarsia.core.names import close_names, did_you_mean
from intarsia.core.params import config_from_signature
from intarsia.nn.shapes import ShapeTree

Rate: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
"""A dropout rate inside a list, where `Param` cannot reach."""


@runtime_checkable
class HasKernels(Protocol):
    """Modules that tell which of their weights L2 regularization applies to."""

    def kernels(self) -> Iterator[Tensor]:
        """Weight matrices; biases, norms and embeddings are not among them."""
        ...


class Component(nn.Module):
    """Base of the components of the catalogue.

    A component declares its hyperparameters as keyword-only arguments annotated with `Param`. What follows from its
    inputs (widths, numbers of fields) are further keyword-only arguments, which `input_arguments` works out.
    """

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """The constructor arguments that follow from the shapes of the inputs.

        Raises:
            BuildError: The shapes do not fit the component.
        """
        raise NotImplementedError(f"{cls.__name__} does not say which arguments follow from its inputs")

    @classmethod
    def from_inputs(cls, inputs: ShapeTree, **hyperparameters: Any) -> Self:
        """Builds the component for inputs of these shapes.

        Args:
            inputs: Shape, or nested shapes, of what `forward` will get.
            hyperparameters: The arguments that carry `Param`.

        Raises:
            BuildError: The shapes do not fit the component or its hyperparameters.
        """
        return cls(**cls.input_arguments(inputs), **hyperparameters)

    def kernels(self) -> Iterator[Tensor]:
        """Weight matrices of dense and convolution layers, which L2 regularization applies to."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                yield module.weight


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the most similar known names, or all of them when none is similar."""
    names = list(known)
    return did_you_mean(close_names(name, names, 0.5)) or f"Known: {', '.join(sorted(names))}."


def options(target: Callable[..., Any], value: BaseModel | Mapping[str, object], where: str) -> dict[str, Any]:
    """The keyword arguments of a nested component, checked against what that component declares.

    Args:
        target: The nested component's class.
        value: Its message: a validated schema object, or a mapping.
        where: Name of the hyperparameter that holds the message, for errors.

    Raises:
        BuildError: A key is unknown, missing or has a wrong value.
    """
    schema = config_from_signature(target)
    if not isinstance(value, BaseModel):
        try:
            value = schema.model_validate(dict(value))
        except ValidationError as error:
            raise BuildError(_problems(error, where, list(schema.model_fields))) from None
    return {name: getattr(value, name) for name in schema.model_fields}


def _problems(error: ValidationError, where: str, known: list[str]) -> list[Problem]:
    out = []
    for detail in error.errors():
        path = ".".join([where, *(str(part) for part in detail["loc"])])
        if detail["type"] == "extra_forbidden":
            message = f"no such option. {nearest(str(detail['loc'][-1]), known)}"
        elif detail["type"] == "missing":
            message = "is required"
        else:
            message = f"{detail['msg']}. Received: {detail['input']!r}"
        out.append(Problem("", path, message))
    return out
