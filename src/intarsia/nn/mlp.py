"""Stacks of dense layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from intarsia.core.errors import BuildError
from intarsia.core.params import Param, StrictModel, config_from_signature
from intarsia.nn.activations import activation as activation_named
from intarsia.nn.component import Component, Rate
from intarsia.nn.dropout import Dropout
from intarsia.nn.initializers import initialize_
from intarsia.nn.normalization import BatchNorm
from intarsia.nn.shapes import ShapeTree, one_tensor, width


class DenseLayer(nn.Module):
    """One dense layer with what surrounds it: dense, batch norm, activation, dropout.

    Args:
        in_features: Width of the input.
        out_features: Width of the output.
        bias: Whether a bias is added.
        norm: Whether the layer is batch normalised.
        norm_last: Whether the norm comes after the activation.
        activation: Name of the activation.
        dropout: Share of outputs dropped in training.
        initializer: Initial values of the kernel.
    """

    def __init__(
        self,
        *,
        in_features: int,
        out_features: int,
        bias: bool,
        norm: bool,
        norm_last: bool = False,
        activation: str | None,
        dropout: float,
        initializer: str,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features, bias=bias)
        initialize_(self.linear.weight, initializer)
        if self.linear.bias is not None:
            nn.init.zeros_(self.linear.bias)
        self.norm = BatchNorm(out_features) if norm else nn.Identity()
        self.activation = activation_named(activation, num_features=out_features)
        self.dropout = Dropout(dropout) if dropout else nn.Identity()
        self.norm_last = norm_last

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        out: Tensor = self.linear(inputs)
        out = self.norm(self.activation(out)) if self.norm_last else self.activation(self.norm(out))
        dropped: Tensor = self.dropout(out)
        return dropped


class MLP(Component):
    """Dense layers one after another, each with batch norm, activation and dropout.

    The last layer has switches of its own, so that one MLP can be a hidden stack or end in a logit.

    Args:
        in_features: Width of the input.

    Raises:
        BuildError: No layer is asked for, there are more dropout rates than layers, or a name is unknown.
    """

    def __init__(
        self,
        *,
        in_features: int,
        hidden_units: Annotated[list[PositiveInt], Param("Widths of the layers.")],
        dropout_ratio: Annotated[
            list[Rate] | None, Param("Dropout of each layer; layers without an entry have none.")
        ] = None,
        activation: Annotated[str, Param("Activation of all layers but the last.")] = "relu",
        use_bn: Annotated[bool, Param("Whether all layers but the last are batch normalised.")] = True,
        use_final_bn: Annotated[bool, Param("Whether the last layer is batch normalised.")] = True,
        final_activation: Annotated[str, Param("Activation of the last layer.")] = "relu",
        use_bias: Annotated[bool, Param("Whether all layers but the last have a bias.")] = False,
        use_final_bias: Annotated[bool, Param("Whether the last layer has a bias.")] = False,
        initializer: Annotated[str, Param("Initial values of the kernels.")] = "he_uniform",
        use_bn_after_activation: Annotated[bool, Param("Whether the norm follows the activation.")] = False,
        add_to_outputs: Annotated[bool, Param("Whether the output is also a named prediction.")] = False,
    ) -> None:
        super().__init__()
        if not hidden_units:
            raise BuildError("`MLP` needs at least one layer. Received: hidden_units = []. Name the widths.")
        rates = list(dropout_ratio or [])
        if len(rates) > len(hidden_units):
            raise BuildError(
                "`MLP` has at most one `dropout_ratio` a layer. "
                f"Received: {len(rates)} rates for {len(hidden_units)} layers."
            )
        self.in_features = in_features
        self.out_features = hidden_units[-1]
        self.add_to_outputs = add_to_outputs
        widths = [in_features, *hidden_units]
        rates += [0.0] * (len(hidden_units) - len(rates))
        last = len(hidden_units) - 1
        self.layers = nn.Sequential(
            *(
                DenseLayer(
                    in_features=widths[i],
                    out_features=widths[i + 1],
                    bias=use_final_bias if i == last else use_bias,
                    norm=use_final_bn if i == last else use_bn,
                    norm_last=use_bn_after_activation,
                    activation=final_activation if i == last else activation,
                    dropout=rates[i],
                    initializer=initializer,
                )
                for i in range(len(hidden_units))
            )
        )

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """`in_features` from (B, D) or (B, L, D)."""
        return {"in_features": width(cls.__name__, one_tensor(cls.__name__, inputs))}

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, D) to (B, out_features), or (B, L, D) to (B, L, out_features)."""
        out: Tensor = self.layers(inputs)
        return out


class DNN(Component):
    """The dense layers of EasyRec's older models: all alike, each with bias, batch norm, activation and dropout.

    `hidden_units: [0]` passes its input on.

    Args:
        in_features: Width of the input.

    Raises:
        BuildError: The number of dropout rates is not the number of layers, or a name is unknown.
    """

    def __init__(
        self,
        *,
        in_features: int,
        hidden_units: Annotated[list[NonNegativeInt], Param("Widths of the layers; [0]: no layer.")],
        dropout_ratio: Annotated[list[Rate] | None, Param("Dropout of each layer; none, or one a layer.")] = None,
        activation: Annotated[str, Param("Activation of all layers.")] = "relu",
        use_bn: Annotated[bool, Param("Whether the layers are batch normalised.")] = True,
    ) -> None:
        super().__init__()
        if not hidden_units or (0 in hidden_units and list(hidden_units) != [0]):
            raise BuildError(
                "`DNN` needs layers one or more units wide, or [0] for none. "
                f"Received: hidden_units = {list(hidden_units)}."
            )
        rates = list(dropout_ratio or [])
        if rates and len(rates) != len(hidden_units):
            raise BuildError(
                f"`DNN` needs one `dropout_ratio` a layer. Received: {len(rates)} rates for {len(hidden_units)} layers."
            )
        self.in_features = in_features
        units = [] if list(hidden_units) == [0] else list(hidden_units)
        self.out_features = units[-1] if units else in_features
        rates = rates or [0.0] * len(units)
        self.layers = nn.Sequential(
            *(
                DenseLayer(
                    in_features=fan_in,
                    out_features=fan_out,
                    bias=True,
                    norm=use_bn,
                    activation=activation,
                    dropout=rate,
                    initializer="glorot_uniform",
                )
                for fan_in, fan_out, rate in zip([in_features, *units], units, rates)
            )
        )

    @classmethod
    def input_arguments(cls, inputs: ShapeTree) -> dict[str, Any]:
        """`in_features` from (B, D) or (B, L, D)."""
        return {"in_features": width(cls.__name__, one_tensor(cls.__name__, inputs))}

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, D) to (B, out_features), or (B, L, D) to (B, L, out_features)."""
        out: Tensor = self.layers(inputs)
        return out


# A nested MLP message: the schema of MLP's hyperparameters at run time; a mapping of them will do as well.
if TYPE_CHECKING:
    MLPOptions: TypeAlias = StrictModel | Mapping[str, object]
else:
    MLPOptions = config_from_signature(MLP)
