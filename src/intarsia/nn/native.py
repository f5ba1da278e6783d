"""Single layers under the names and with the options of Keras."""

from __future__ import annotations

import math
from typing import Annotated, Any

from torch import Tensor, nn

from intarsia.core.params import Param
from intarsia.nn import dropout
from intarsia.nn.activations import activation as activation_named
from intarsia.nn.component import Component
from intarsia.nn.initializers import initialize_
from intarsia.nn.normalization import EPSILON, MOMENTUM, BatchNorm
from intarsia.nn.shapes import ShapeTree, one_tensor, refuse, width

_ANY_RANK = (2, 3, 4)


class _LastAxis(Component):
    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """`in_features`, the size of the last axis."""
        return {"in_features": width(cls.__name__, one_tensor(cls.__name__, inputs, _ANY_RANK))}


class Dense(_LastAxis):
    """One dense layer: activation(x W + b).

    Args:
        in_features: Size of the last axis.
    """

    def __init__(
        self,
        *,
        in_features: int,
        units: Annotated[int, Param("Width of the output.", ge=1)],
        activation: Annotated[str | None, Param("Activation; none: linear.")] = None,
        use_bias: Annotated[bool, Param("Whether a bias is added.")] = True,
        kernel_initializer: Annotated[str, Param("Initial values of the kernel.")] = "glorot_uniform",
        bias_initializer: Annotated[str, Param("Initial values of the bias.")] = "zeros",
    ) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = units
        self.linear = nn.Linear(in_features, units, bias=use_bias)
        initialize_(self.linear.weight, kernel_initializer)
        if use_bias:
            initialize_(self.linear.bias, bias_initializer)
        self.activation = activation_named(activation, num_features=units)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, ..., in_features) to (B, ..., units)."""
        out: Tensor = self.activation(self.linear(inputs))
        return out


class Dropout(Component):
    """Zeroes a random share of elements in training and divides the others by the share that is kept."""

    def __init__(self, *, rate: Annotated[float, Param("Share of elements that are dropped.", ge=0, lt=1)]) -> None:
        super().__init__()
        self.dropout = dropout.Dropout(rate)

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """Nothing follows from the input, one tensor."""
        one_tensor(cls.__name__, inputs, (1, *_ANY_RANK))
        return {}

    def forward(self, inputs: Tensor) -> Tensor:
        """Any shape to the same shape."""
        out: Tensor = self.dropout(inputs)
        return out


class BatchNormalization(_LastAxis):
    """Batch normalisation of the last axis.

    Args:
        in_features: Size of the last axis.
    """

    def __init__(
        self,
        *,
        in_features: int,
        momentum: Annotated[float, Param("Share of the running statistics a batch leaves.", ge=0, lt=1)] = MOMENTUM,
        epsilon: Annotated[float, Param("Added to the variance.", gt=0)] = EPSILON,
        center: Annotated[bool, Param("Whether a shift is learned.")] = True,
        scale: Annotated[bool, Param("Whether a scale is learned.")] = True,
    ) -> None:
        super().__init__()
        self.out_features = in_features
        self.norm = BatchNorm(in_features, momentum=momentum, eps=epsilon)
        if not center:
            self.norm.register_parameter("bias", None)
        if not scale:
            self.norm.register_parameter("weight", None)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, ..., D) to (B, ..., D)."""
        out: Tensor = self.norm(inputs)
        return out


class LayerNormalization(_LastAxis):
    """Normalisation of each vector along the last axis to mean 0 and variance 1.

    Args:
        in_features: Size of the last axis.
    """

    def __init__(
        self,
        *,
        in_features: int,
        epsilon: Annotated[float, Param("Added to the variance.", gt=0)] = EPSILON,
        center: Annotated[bool, Param("Whether a shift is learned.")] = True,
        scale: Annotated[bool, Param("Whether a scale is learned.")] = True,
    ) -> None:
        super().__init__()
        self.out_features = in_features
        self.norm = nn.LayerNorm(in_features, eps=epsilon)
        if not center:
            self.norm.register_parameter("bias", None)
        if not scale:
            self.norm.register_parameter("weight", None)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, ..., D) to (B, ..., D)."""
        out: Tensor = self.norm(inputs)
        return out


class Activation(_LastAxis):
    """An activation by itself.

    Args:
        in_features: Size of the last axis.
    """

    def __init__(self, *, in_features: int, activation: Annotated[str, Param("Name of the activation.")]) -> None:
        super().__init__()
        self.out_features = in_features
        self.activation = activation_named(activation, num_features=in_features)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, ..., D) to (B, ..., D)."""
        out: Tensor = self.activation(inputs)
        return out


class Flatten(Component):
    """All axes but the batch as one.

    Args:
        out_features: Product of their sizes.
    """

    def __init__(self, *, out_features: int) -> None:
        super().__init__()
        self.out_features = out_features

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """`out_features` from an input whose sizes are all known."""
        sizes = [size for size in one_tensor(cls.__name__, inputs, _ANY_RANK)[1:] if size is not None]
        if len(sizes) + 1 != len(one_tensor(cls.__name__, inputs, _ANY_RANK)):
            refuse(cls.__name__, "needs an input whose sizes are known but for the batch", inputs)
        return {"out_features": math.prod(sizes)}

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, ...) to (B, out_features)."""
        return inputs.reshape(inputs.shape[0], self.out_features)
