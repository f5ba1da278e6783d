"""The components by the name that a pipeline file calls them.

A new component is one file and one line in `_BUILT_IN`. A class of one's own joins with `register`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from intarsia.core.errors import BuildError
from intarsia.core.params import StrictModel, config_from_signature
from intarsia.nn.attention_pool import AttentionPool
from intarsia.nn.auxiliary_loss import AuxiliaryLoss
from intarsia.nn.bst import BST
from intarsia.nn.component import Component, nearest
from intarsia.nn.cross import Cross
from intarsia.nn.din import DIN
from intarsia.nn.dot_interaction import DotInteraction
from intarsia.nn.fm import FM
from intarsia.nn.merge import Add, Average, Concatenate, Maximum, Minimum, Multiply, Subtract
from intarsia.nn.mlp import DNN, MLP
from intarsia.nn.native import (
    Activation,
    BatchNormalization,
    Dense,
    Dropout,
    Flatten,
    LayerNormalization,
)
from intarsia.nn.seq_augment import SeqAugment
from intarsia.nn.text_cnn import TextCNN


@dataclass(frozen=True)
class ComponentEntry:
    """A component and what a pipeline file calls it.

    Attributes:
        name: Value of `class_name`.
        cls: The component.
        field: Name of the message with its options, beside `st_params`; None where there is only st_params.
        aliases: Other values of `class_name`.
    """

    name: str
    cls: type[Component]
    field: str | None = None
    aliases: tuple[str, ...] = ()


_BUILT_IN = (
    ComponentEntry("MLP", MLP, "mlp"),
    ComponentEntry("DNN", DNN, "dnn"),
    ComponentEntry("FM", FM, "fm"),
    ComponentEntry("Cross", Cross, "cross"),
    ComponentEntry("DotInteraction", DotInteraction, "dot_interaction"),
    ComponentEntry("DIN", DIN, "din"),
    ComponentEntry("BST", BST, "bst"),
    ComponentEntry("TextCNN", TextCNN, "text_cnn"),
    ComponentEntry("AttentionPool", AttentionPool),
    ComponentEntry("SeqAugment", SeqAugment, "seq_aug", aliases=("SeqAugmentOps",)),
    ComponentEntry("AuxiliaryLoss", AuxiliaryLoss),
    ComponentEntry("Add", Add),
    ComponentEntry("Average", Average),
    ComponentEntry("Concatenate", Concatenate),
    ComponentEntry("Maximum", Maximum),
    ComponentEntry("Minimum", Minimum),
    ComponentEntry("Multiply", Multiply),
    ComponentEntry("Subtract", Subtract),
    ComponentEntry("Activation", Activation),
    ComponentEntry("BatchNormalization", BatchNormalization),
    ComponentEntry("Dense", Dense),
    ComponentEntry("Dropout", Dropout),
    ComponentEntry("Flatten", Flatten),
    ComponentEntry("LayerNormalization", LayerNormalization),
)

_entries: dict[str, ComponentEntry] = {entry.name: entry for entry in _BUILT_IN}

COMPONENTS: Mapping[str, ComponentEntry] = MappingProxyType(_entries)
"""All components by name, those of `register` included; a read-only view."""


def resolve(class_name: str) -> ComponentEntry:
    """The component that a pipeline file calls `class_name`.

    Raises:
        BuildError: There is none.
    """
    entry = _by_any_name().get(class_name)
    if entry is None:
        raise BuildError(f"no component is called `{class_name}`. {nearest(class_name, _by_any_name())}")
    return entry


def config_of(entry: ComponentEntry) -> type[StrictModel]:
    """The strict schema of a component's hyperparameters, read from its constructor."""
    constructor: Callable[..., Component] = entry.cls
    return config_from_signature(constructor)


def register(
    name: str, cls: type[Component], *, field: str | None = None, aliases: tuple[str, ...] = ()
) -> ComponentEntry:
    """Adds a class of one's own to the catalogue.

    Args:
        name: What pipeline files will call it.
        cls: A `Component`.
        field: Name of the message with its options, when st_params is not enough.
        aliases: Other names.

    Raises:
        BuildError: A name is taken, or the class is not a `Component`.
    """
    if not (isinstance(cls, type) and issubclass(cls, Component)):
        raise BuildError(f"a component is a subclass of intarsia.nn.component.Component. Received: {cls!r}.")
    known = _by_any_name()
    for wanted in (name, *aliases):
        if wanted in known:
            taken = known[wanted].cls
            raise BuildError(
                f"the component name `{wanted}` is taken by {taken.__module__}.{taken.__qualname__}. "
                f"Register {cls.__qualname__} under another name."
            )
    entry = ComponentEntry(name, cls, field, aliases)
    _entries[name] = entry
    return entry


def _by_any_name() -> dict[str, ComponentEntry]:
    return {name: entry for entry in _entries.values() for name in (entry.name, *entry.aliases)}
