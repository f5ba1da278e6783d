"""The optimizers of a model's embedding tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from intarsia.config.schema.training import OptimizerConfig
from intarsia.core.errors import ConfigError
from intarsia.nn.embedding import EmbeddingCollection
from intarsia.nn.table_optim import TableOptimizer, make_table_optimizer, scale_table_grads, table_grad_norm_sq
from intarsia.nn.table_optim.gradients import gradient
from intarsia.training.distributed import World
from intarsia.training.schedules import Schedule, make_schedule

WIDE = "wide"
"""The group of tables that the first of three optimizers serves."""


@dataclass(frozen=True)
class TablePart:
    """An optimizer of some tables.

    Attributes:
        name: Unique; the key of its state in checkpoints.
        rate_name: Its learning rate's name in logs.
    """

    name: str
    rate_name: str
    optimizer: TableOptimizer
    schedule: Schedule


class Tables:
    """The embedding collections of a model and their gradients.

    Args:
        model: Searched for collections.
    """

    def __init__(self, model: nn.Module) -> None:
        self.collections: dict[str, EmbeddingCollection] = {
            name: module for name, module in model.named_modules() if isinstance(module, EmbeddingCollection)
        }

    @property
    def weights(self) -> list[nn.Parameter]:
        """Fused weights, which get sparse gradients."""
        return [c.fused_weight(name) for c in self.collections.values() for name in c.fused]

    @property
    def names(self) -> dict[str, str]:
        """Each table's name in checkpoints, and its own name."""
        return {
            f"{prefix}.tables.{name}".removeprefix("."): name
            for prefix, collection in self.collections.items()
            for name in collection.table_names
        }

    @property
    def learn(self) -> bool:
        """Whether any table is trained."""
        return any(weight.requires_grad for weight in self.weights)

    def freeze(self, names: Collection[str]) -> None:
        """Freezes tables, given by their names in checkpoints."""
        for prefix, collection in self.collections.items():
            mine = {f"{prefix}.tables.{name}".removeprefix("."): name for name in collection.table_names}
            collection.freeze([name for key, name in mine.items() if key in names])

    def norm_sq(self) -> Tensor:
        """Square of the gradients' Euclidean norm; a row that was read twice counts as its sum."""
        return table_grad_norm_sq(list(self.collections.values()))

    def scale(self, factor: float | Tensor) -> None:
        """Multiplies the gradients."""
        scale_table_grads(list(self.collections.values()), factor)

    def sum_over(self, world: World) -> None:
        """Adds up the gradients of all processes. Only rows that somebody read travel."""
        for collection in self.collections.values():
            for name, table in collection.fused.items():
                weight = collection.fused_weight(name)
                found = gradient(weight, table)
                if found is None:
                    rows = torch.empty(0, dtype=torch.int64, device=weight.device)
                    found = rows, weight.detach().new_empty(0, weight.shape[1])
                rows, values = world.gather_rows(*found)
                weight.grad = None
                if len(rows):
                    weight.grad = torch.sparse_coo_tensor(
                        rows.unsqueeze(0), values, weight.shape, is_coalesced=False, check_invariants=False
                    )


def build_table_parts(tables: Tables, messages: Sequence[OptimizerConfig], needs_gradients: bool) -> list[TablePart]:
    """One optimizer for each collection and each message that serves tables of it.

    Args:
        tables: The collections.
        messages: One, two or three, as in `optimizer_messages`.
        needs_gradients: Whether gradients are looked at between the backward pass and the update.

    Raises:
        ConfigError: Three messages, and no table is in the group `wide`.
    """
    groups = {table.group for c in tables.collections.values() for table in c.fused.values()}
    wanted: list[tuple[str, OptimizerConfig, set[str]]] = [("tables", messages[0], groups)]
    if len(messages) == 3:
        if WIDE not in groups:
            raise ConfigError(
                "Three `train_config.optimizer_config` serve wide tables, other tables and the rest. Received a model "
                "without wide tables. Write two, or one."
            )
        wanted = [(WIDE, messages[0], {WIDE}), ("tables", messages[1], groups - {WIDE})]
    parts = []
    for prefix, collection in tables.collections.items():
        own = {table.group for table in collection.fused.values()}
        for word, message, served in wanted:
            if own & served:
                kind, options = table_options(message)
                schedule = make_schedule(message.chosen[1].learning_rate, message.embedding_learning_rate_multiplier)
                optimizer = make_table_optimizer(
                    collection,
                    kind,
                    lr=schedule(0),
                    groups=sorted(own & served),
                    needs_gradients=needs_gradients,
                    l2=message.embedding_l2,
                    **options,
                )
                parts.append(TablePart(f"{prefix}/{word}", f"lr_{word}", optimizer, schedule))
    return parts


def table_options(message: OptimizerConfig) -> tuple[str, dict[str, float]]:
    """Kind and options of the table optimizer that stands for a message.

    Adam on tables is its lazy form, and weight decay does not reach tables: both would otherwise touch every row at
    every step. `embedding_l2` does reach them.
    """
    kind, given = message.chosen
    options: Any = given
    match kind:
        case "adam" | "lazy_adam" | "adamw":
            return "adam", {"beta1": options.beta1, "beta2": options.beta2, "eps": options.epsilon}
        case "adagrad" | "rowwise_adagrad":
            return kind, {"initial_accumulator_value": options.initial_accumulator_value, "eps": options.epsilon}
        case "sgd":
            return "sgd", {}
        case "momentum" | "momentumw":
            return "momentum", {"momentum": options.momentum_optimizer_value}
        case "rms_prop":
            momentum = options.momentum_optimizer_value
            return kind, {"decay": options.decay, "momentum": momentum, "eps": options.epsilon}
        case "ftrl":
            names = ("learning_rate_power", "initial_accumulator_value", "l1_reg", "l2_reg", "l2_shrinkage_reg")
            return kind, {name: getattr(options, name) for name in names}
        case _:
            raise TypeError(f"no table optimizer is written for {kind}")


def dense_parameters(model: nn.Module, tables: Tables) -> dict[str, nn.Parameter]:
    """Parameters that are no tables, by name."""
    sparse = {id(weight) for weight in tables.weights}
    return {name: p for name, p in model.named_parameters() if id(p) not in sparse}


def searched_names(dense: Iterable[str], tables: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Names by which `freeze_gradient` finds a parameter or a table: a table has its own name beside the full one."""
    return {**{name: (name,) for name in dense}, **{full: (full, own) for full, own in tables.items()}}
