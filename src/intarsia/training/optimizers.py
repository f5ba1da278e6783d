"""From `train_config` to optimizers: one for the dense parameters, one or more for the embedding tables."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from intarsia.config.schema import training as schema
from intarsia.config.schema.training import OptimizerConfig, TrainConfig
from intarsia.core.errors import CheckpointError, ConfigError
from intarsia.training.distributed import World
from intarsia.training.encoding import Tree
from intarsia.training.ftrl import Ftrl
from intarsia.training.schedules import Schedule, make_schedule
from intarsia.training.tables import TablePart, Tables, build_table_parts, dense_parameters, searched_names


@dataclass
class _Part:
    """An optimizer, its schedule and the rate that it has now."""

    name: str
    schedule: Schedule
    set_lr: Callable[[float], None]
    step: Callable[[], None]
    lr: float | None = None


class Optimizers:
    """All optimizers of a model as one.

    Args:
        dense_parameters: Dense parameters that learn, by name.
        dense: Their optimizer; None where there are none.
        dense_schedule: Its learning rate.
        tables: The embedding collections.
        table_parts: Their optimizers.
    """

    def __init__(
        self,
        dense_parameters: Mapping[str, nn.Parameter],
        dense: torch.optim.Optimizer | None,
        dense_schedule: Schedule,
        tables: Tables,
        table_parts: Sequence[TablePart],
    ) -> None:
        self.dense_parameters = dict(dense_parameters)
        self.dense = dense
        self.tables = tables
        self.table_parts = list(table_parts)
        self._parameters = list(dense_parameters.values())
        self._table_weights = tables.weights
        self._parts = [
            _Part(part.rate_name, part.schedule, part.optimizer.set_lr, part.optimizer.step) for part in table_parts
        ]
        if dense is not None:
            self._parts.insert(0, _Part("lr", dense_schedule, self._set_dense_lr, _step(dense)))

    def _set_dense_lr(self, lr: float) -> None:
        assert self.dense is not None
        for group in self.dense.param_groups:
            group["lr"] = lr

    def rates(self, step: int) -> dict[str, float]:
        """Learning rates by name: `lr`, and `lr_tables` and `lr_wide` where theirs is another."""
        rates = {part.name: part.schedule(step) for part in self._parts}
        first = rates.get("lr", next(iter(rates.values()), 0.0))
        return {"lr": first, **{name: rate for name, rate in rates.items() if rate != first}}

    def set_rates(self, step: int) -> None:
        """Sets the learning rates of the update after `step` updates. Call it before the forward pass: some backends
        update tables within the backward pass.
        """
        for part in self._parts:
            lr = part.schedule(step)
            if lr != part.lr:
                part.set_lr(lr)
                part.lr = lr

    def step(self) -> None:
        """One update of everything that has a gradient."""
        for part in self._parts:
            part.step()

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self._parameters:
            parameter.grad = None
        for weight in self._table_weights:
            weight.grad = None

    def with_gradients(self) -> list[Tensor]:
        """Parameters and table weights that have a gradient now."""
        return [p for p in (*self._parameters, *self._table_weights) if p.grad is not None]

    def sum_over(self, world: World) -> None:
        """Adds up the gradients of all processes."""
        world.sum_dense(self._parameters)
        self.tables.sum_over(world)

    @torch.no_grad()
    def norm(self) -> Tensor:
        """Euclidean norm of the whole gradient, dense and sparse together."""
        grads = self._dense_grads()
        square = self.tables.norm_sq() if self._table_weights else torch.zeros(())
        if grads:
            square = square.to(grads[0].device) + torch.stack(torch._foreach_norm(grads)).square().sum()
        return square.sqrt()

    @torch.no_grad()
    def scale(self, factor: float | Tensor) -> None:
        """Multiplies the whole gradient."""
        grads = self._dense_grads()
        if grads:
            torch._foreach_mul_(grads, factor)
        if self._table_weights:
            self.tables.scale(factor)

    def _dense_grads(self) -> list[Tensor]:
        return [p.grad for p in self._parameters if p.grad is not None]

    def state(self) -> Tree:
        """The states, dense ones by the parameters' names. Rates are not needed: schedules are pure functions."""
        dense: dict[str, Any] = {}
        if self.dense is not None:
            numbers = self.dense.state_dict()["state"]
            dense = {name: numbers[i] for i, name in enumerate(self.dense_parameters) if i in numbers}
        return {"dense": dense, "tables": {part.name: part.optimizer.state_dict() for part in self.table_parts}}

    def load(self, tree: Tree) -> None:
        """The inverse of `state`.

        Raises:
            CheckpointError: The states are of other optimizers.
        """
        dense, tables = tree["dense"], tree["tables"]
        wrong = sorted({*tables} ^ {part.name for part in self.table_parts})
        wrong += [name for name in dense if name not in self.dense_parameters]
        if wrong:
            raise CheckpointError(
                "A run resumes with the optimizers and frozen parameters that it was started with. The checkpoint or "
                f"this run alone has: {', '.join(wrong[:5])}. Restore `optimizer_config` and `freeze_gradient`, or "
                "start a new run with `fine_tune_checkpoint`."
            )
        if self.dense is not None:
            self._check_dense(dense)
            state = {i: dense[name] for i, name in enumerate(self.dense_parameters) if name in dense}
            self.dense.load_state_dict({"state": state, "param_groups": self.dense.state_dict()["param_groups"]})
        for part in self.table_parts:
            part.optimizer.load_state_dict(tables[part.name])
        for each in self._parts:
            each.lr = None

    def _check_dense(self, dense: Mapping[str, Mapping[str, Any]]) -> None:
        """A fresh optimizer shows its slots only after a step, so the slots' names are compared with its kind's."""
        slots = {slot for state in dense.values() for slot, value in state.items() if value is not None}
        known = _SLOTS[type(self.dense).__name__]
        if not slots <= known:
            raise CheckpointError(
                f"A run resumes with the optimizer that it was started with. Received {type(self.dense).__name__}, "
                f"which has no {', '.join(sorted(slots - known))}. Restore `optimizer_config`, or start a new run with "
                "`fine_tune_checkpoint`."
            )


_SLOTS = {
    "Adam": {"step", "exp_avg", "exp_avg_sq"},
    "AdamW": {"step", "exp_avg", "exp_avg_sq"},
    "Adagrad": {"step", "sum"},
    "DecoupledSgd": {"momentum_buffer"},
    "RMSprop": {"step", "square_avg", "momentum_buffer"},
    "Ftrl": {"square_sum", "linear"},
}


def _step(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    def step() -> None:
        optimizer.step()

    return step


def optimizer_messages(config: TrainConfig) -> list[OptimizerConfig]:
    """The optimizer messages, one to three, with the shorthands `optimizer` and `learning_rate` worked in.

    Raises:
        ConfigError: Both forms are written, or more than three messages, or one message has two optimizers.
    """
    messages = list(config.optimizer_config)
    if config.optimizer is not None:
        if messages:
            raise ConfigError(
                "Write `train_config.optimizer` or `train_config.optimizer_config`, not both. Remove one."
            )
        messages = [config.optimizer]
    messages = messages or [OptimizerConfig()]
    if len(messages) > 3:
        raise ConfigError(f"`train_config.optimizer_config` takes one to three messages. Received {len(messages)}.")
    for message in messages:
        names = [n for n in type(message).model_fields if n.endswith("_optimizer") and getattr(message, n) is not None]
        if len(names) > 1:
            raise ConfigError(f"`optimizer_config` takes one optimizer. Received {', '.join(names)}. Keep one of them.")
    if len(messages) > 1 and messages[-1].embedding_l2 > 0:
        raise ConfigError(
            "The last of several `optimizer_config` serves no tables. Received `embedding_l2: "
            f"{messages[-1].embedding_l2:g}` in the last of {len(messages)}. Move it to one of the others."
        )
    if config.learning_rate is not None:
        messages = [_with_rate(message, config.learning_rate) for message in messages]
    return messages


def _with_rate(message: OptimizerConfig, rate: schema.LearningRate) -> OptimizerConfig:
    name, options = message.chosen
    # A saved pipeline writes the empty message too, which sets no rate.
    if options.learning_rate != schema.LearningRate():
        raise ConfigError(
            f"Write `train_config.learning_rate` or the `learning_rate` inside of `{name}_optimizer`, not both."
        )
    key = f"{name}_optimizer"
    return message.model_copy(update={key: options.model_copy(update={"learning_rate": rate})})


def moving_average_decay(config: TrainConfig) -> float | None:
    """Decay of the moving average of the dense parameters; None: none is kept."""
    rest = optimizer_messages(config)[-1]
    return rest.moving_average_decay if rest.use_moving_average else None


def build_optimizers(model: nn.Module, config: TrainConfig, world: World | None = None) -> Optimizers:
    """The optimizers of a model. What is frozen stops asking for gradients.

    One message serves everything; of two, the first serves the tables and the second the rest; of three, the first
    serves the tables of the group `wide`, the second the other tables, the third the rest.

    Args:
        model: Its embedding collections are found by type; all other parameters are dense. It must be on its device.
        config: Read for the optimizers, `freeze_gradient`, and what happens to gradients before an update.
        world: The processes that train together.

    Raises:
        ConfigError: The messages contradict each other; a regular expression is wrong or matches nothing; nothing
            is left to learn.
    """
    messages = optimizer_messages(config)
    tables = Tables(model)
    dense = dense_parameters(model, tables)
    frozen = match_frozen(config.freeze_gradient, searched_names(dense, tables.names))
    tables.freeze(frozen)
    for name, parameter in dense.items():
        if name in frozen:
            parameter.requires_grad_(False)
    learning = {name: p for name, p in dense.items() if p.requires_grad}
    if not learning and not tables.learn:
        raise ConfigError(
            "Training needs at least one parameter that learns. Received a model whose parameters are all frozen. "
            "Narrow `train_config.freeze_gradient`."
        )
    needs_gradients = (
        config.gradient_clipping_by_norm > 0
        or config.gradient_accumulation_steps > 1
        or config.mixed_precision == "fp16"
        or (world is not None and not world.alone)
    )
    parts = build_table_parts(tables, messages, needs_gradients) if tables.learn else []
    kind, options = messages[-1].chosen
    optimizer = make_dense_optimizer(kind, options, learning.values()) if learning else None
    return Optimizers(learning, optimizer, make_schedule(options.learning_rate), tables, parts)


def match_frozen(patterns: Iterable[str], names: Mapping[str, Sequence[str]]) -> set[str]:
    """Names of parameters and tables in which one of the regular expressions is found.

    Args:
        patterns: Regular expressions.
        names: Each name, and the words that are searched for it.

    Raises:
        ConfigError: An expression cannot be read, or is found nowhere.
    """
    frozen: set[str] = set()
    for pattern in patterns:
        try:
            matched = [name for name, words in names.items() if any(re.search(pattern, word) for word in words)]
        except re.error as error:
            raise ConfigError(
                f"`train_config.freeze_gradient` takes regular expressions. Received `{pattern}`: {error}."
            ) from error
        if not matched:
            plain = re.sub(r"\\.|[\^$*+?()\[\]{}|]", "", pattern)
            words = {word: name for name, all_words in names.items() for word in all_words}
            near = dict.fromkeys(words[word] for word in difflib.get_close_matches(plain, words, 5, 0.3))
            raise ConfigError(
                f"`train_config.freeze_gradient` must match a parameter or a table. Received `{pattern}`, which "
                f"matches none of {len(names)}. Nearest names: {', '.join(near or list(names)[:5])}."
            )
        frozen.update(matched)
    return frozen


def make_dense_optimizer(kind: str, options: Any, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """torch's optimizer for dense parameters, in its fused form where there is one.

    Departures from EasyRec: weight decay is multiplied by the learning rate, as in torch (EasyRec's is not); RMSProp
    and Adam add epsilon to the root, with torch's bias correction; `rowwise_adagrad` is plain Adagrad here.

    Args:
        kind: As in `OptimizerConfig.chosen`.
        options: The message.
        parameters: At least one.
    """
    params = list(parameters)
    rate = make_schedule(options.learning_rate)(0)
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in params)
    match kind:
        case "adam" | "lazy_adam":
            betas = (options.beta1, options.beta2)
            return torch.optim.Adam(params, rate, betas, options.epsilon, fused=fused)
        case "adamw":
            betas = (options.beta1, options.beta2)
            return torch.optim.AdamW(params, rate, betas, options.epsilon, options.weight_decay, fused=fused)
        case "adagrad" | "rowwise_adagrad":
            start = options.initial_accumulator_value
            on_cpu = all(p.device.type == "cpu" for p in params)
            how: dict[str, bool] = {"fused": True} if on_cpu and fused else {"foreach": True}
            return torch.optim.Adagrad(params, rate, initial_accumulator_value=start, eps=options.epsilon, **how)
        case "sgd":
            return DecoupledSgd(params, rate, 0.0, options.weight_decay, fused)
        case "momentum":
            return DecoupledSgd(params, rate, options.momentum_optimizer_value, 0.0, fused)
        case "momentumw":
            return DecoupledSgd(params, rate, options.momentum_optimizer_value, options.weight_decay, fused)
        case "rms_prop":
            return torch.optim.RMSprop(
                params, rate, options.decay, options.epsilon, momentum=options.momentum_optimizer_value, foreach=True
            )
        case "ftrl":
            return Ftrl(
                params,
                rate,
                options.learning_rate_power,
                options.initial_accumulator_value,
                options.l1_reg,
                options.l2_reg,
                options.l2_shrinkage_reg,
            )
        case _:
            raise TypeError(f"no optimizer is written for {kind}")


class DecoupledSgd(torch.optim.SGD):
    """SGD, with momentum if wanted, whose weight decay acts on the weights and not on the gradient.

        w <- (1 - lr * decay) * w - lr * v,    v <- momentum * v + g

    Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 1, with one rate for both.
    """

    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float, decay: float, fused: bool) -> None:
        super().__init__(params, lr, momentum, fused=fused)
        self.decay = decay

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update."""
        if self.decay:
            for group in self.param_groups:
                live = [p for p in group["params"] if p.grad is not None]
                if live:
                    torch._foreach_mul_(live, 1 - group["lr"] * self.decay)
        return super().step(closure)  # type: ignore[no-any-return]
