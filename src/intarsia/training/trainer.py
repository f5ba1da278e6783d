"""The training loop of all gradient models."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from intarsia.config.schema.evaluation import ExportConfig
from intarsia.config.schema.training import TrainConfig
from intarsia.core.batch import Batch
from intarsia.core.errors import CheckpointError, EvaluationError, TrainingError
from intarsia.nn.fast_products import fast_products
from intarsia.training.allocator import keep_freed_memory, release_freed_memory
from intarsia.training.averaging import MovingAverage
from intarsia.training.checkpoint import CheckpointStore, load_model, load_optimizer, read_state
from intarsia.training.distributed import World
from intarsia.training.encoding import random_state, set_random_state
from intarsia.training.interrupts import Interrupts
from intarsia.training.optimizers import Optimizers, build_optimizers, moving_average_decay
from intarsia.training.precision import Precision
from intarsia.training.progress import SilentReporter
from intarsia.training.protocols import BatchSource, Evaluate, Reporter
from intarsia.training.recorder import Event, Recorder
from intarsia.training.selection import Selection
from intarsia.training.setup import choose_device, first_bad_weight, last_good_in_words, not_a_number, parse_dead_line
from intarsia.training.state import LossSums, TrainState

StopReason = Literal["num_steps", "num_epochs", "early_stop", "dead_line", "SIGINT", "SIGTERM"]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        steps: Updates done.
        epochs: Passes over the data completed.
        best_step: Step of the best evaluation, None without one.
        best_metrics: Its values.
        last_metrics: Values of the last evaluation.
        stopped_because: What ended it.
        history: One entry for each evaluation: step, epoch, and the metrics by name.
    """

    steps: int
    epochs: int
    best_step: int | None
    best_metrics: dict[str, float | None]
    last_metrics: dict[str, float | None]
    stopped_because: str
    history: list[dict[str, Any]]


class Trainer:
    """Trains a model: updates, evaluations, checkpoints, stops.

    A run resumed from its latest checkpoint ends with the same weights, optimizer states, logged losses and decisions
    as one that was not interrupted, wherever it was killed. (Two exceptions, by nature: times and speeds in the log,
    and stops and evaluations that the clock decides, which are `dead_line` and `save_checkpoints_secs`.)

    When `fit` returns, the model holds what should be exported: the best evaluation's weights where
    `export_config.exporter_type` is `best` (or unset, with an early stop), otherwise the last, averaged where a moving
    average is asked for. After an interrupt it holds the current weights.

    Args:
        model: `forward(batch)` gives predictions and `losses(predictions, batch)` named scalars; `tables` lists its
            embedding collections. Its initial weights are the caller's, who has seeded them. `steady_shapes` says that
            batches of one size make products of one shape.
        config: `train_config`.
        run_dir: Folder of checkpoints and logs.
        train: Training batches.
        evaluate: Evaluates the model; None: never.
        num_epochs: Passes over the data; 0: as many as `num_steps` needs, or one where that is 0 too.
        export: `export_config`, for the best checkpoint and the early stop.
        reporter: Is told of progress.
        world: The processes that train together.
        schema_hash: Digest of the features' schema; a checkpoint of another one is refused.
        tensorboard: Whether TensorBoard files are written too.
        on_event: Called as `on_event(name, values)` after each `update`, `evaluate` and `save`.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        *,
        run_dir: str | Path,
        train: BatchSource,
        evaluate: Evaluate | None = None,
        num_epochs: int = 0,
        export: ExportConfig | None = None,
        reporter: Reporter | None = None,
        world: World | None = None,
        schema_hash: str = "",
        tensorboard: bool = False,
        on_event: Event | None = None,
    ) -> None:
        self.model = model
        self.config = config
        self.run_dir = Path(run_dir)
        self.train = train
        self.evaluate = evaluate
        self.export = export if export is not None else ExportConfig()
        self.world = world if world is not None else World()
        self.schema_hash = schema_hash
        shown = reporter if reporter is not None and self.world.writes else SilentReporter()
        summary_steps = config.save_summary_steps if tensorboard else 0
        self.recorder = Recorder(self.run_dir, shown, self.world, on_event, summary_steps)
        self.num_epochs = num_epochs or (0 if config.num_steps else 1)
        self.device = choose_device(config.device, self.world)
        self.dead_line = parse_dead_line(config.dead_line)
        model.to(self.device)
        self.precision = Precision(config.mixed_precision, self.device)
        self.optimizers: Optimizers = build_optimizers(model, config, self.world)
        self._summed: frozenset[str] = getattr(model, "summed_losses", frozenset())
        self._statistics = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self.store = CheckpointStore(self.run_dir, config.keep_checkpoint_max)
        self._reset()

    def _reset(self) -> None:
        self.state = TrainState()
        self.selection = Selection(self.config, self.export)
        self.sums = LossSums(eager=self.device.type == "cpu")
        decay = moving_average_decay(self.config)
        self.average = None if decay is None else MovingAverage(self.optimizers.dense_parameters, decay)
        self._saved_at = -1
        self._last_good: Path | None = None

    def fit(self, resume: bool = False) -> TrainResult:
        """Trains to the end.

        Args:
            resume: Whether to go on from the latest checkpoint of `run_dir`; with none there, training starts anew.

        Raises:
            TrainingError: The loss is not a number, or there are no batches.
            CheckpointError: The folder holds checkpoints and `resume` is false; the checkpoint does not fit; a
                checkpoint cannot be written.
            ConfigError: The followed metric is not among those of the first evaluation.
        """
        folder = self._find_checkpoint(resume)
        if self.device.type == "cpu":
            keep_freed_memory()
        with contextlib.ExitStack() as stack:
            self._reset()
            length = self._load(folder) if folder else self._start()
            stack.callback(self.recorder.close)
            self.recorder.open(self.state.step, self._total_steps(), length)
            self._interrupts = stack.enter_context(Interrupts(self.recorder.reporter.message))
            if getattr(self.model, "steady_shapes", False):
                stack.enter_context(fast_products(self.device))
            self.model.train()
            self._saved_clock = time.monotonic()
            reason = self._done()
            while reason is None:
                reason = self._epoch()
            self._finish(reason)
        best = self.selection.best.best_step
        state = self.state
        return TrainResult(
            state.step, state.epoch, best, state.best_metrics, state.last_metrics, reason, list(state.history)
        )

    # ---- beginning and end ----------------------------------------------------------------------------------------

    def _find_checkpoint(self, resume: bool) -> Path | None:
        if self.world.writes:
            self.store.clear_leftovers()
        self.world.any(False)  # nobody looks before the leftovers are gone
        newest = self.store.latest()
        if newest is not None and not resume:
            raise CheckpointError(
                f"A new run needs a folder without checkpoints. Received {self.run_dir}, whose latest is "
                f"{newest.name}. Resume it, or choose another folder."
            )
        return newest

    def _start(self) -> int:
        seed = self.config.seed + self.world.rank
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        self.world.broadcast(list(self.model.state_dict().values()))
        return 0

    def _load(self, folder: Path) -> int:
        data = read_state(folder)
        if data["schema_hash"] != self.schema_hash:
            raise CheckpointError(
                f"The checkpoint {folder} was trained on features with another schema (sizes, vocabularies or names "
                f"have changed). Received schema {self.schema_hash}, expected {data['schema_hash']}. "
                "Resume with the data and configuration of the run, or start a new one with `fine_tune_checkpoint`."
            )
        load_model(self.model, folder, data)
        tree = load_optimizer(folder, data)
        if len(tree["processes"]) != self.world.size:
            raise CheckpointError(
                f"A run resumes with as many processes as it was started with: {len(tree['processes'])}. Received "
                f"{self.world.size}. Start that many, or start a new run with `fine_tune_checkpoint`."
            )
        self.optimizers.load(tree["optimizers"])
        if (self.average is None) != (tree["average"] is None):
            raise CheckpointError(
                f"`use_moving_average` must be as in the run that wrote {folder}. Received "
                f"{'false' if self.average is None else 'true'}."
            )
        if self.average is not None:
            self.average.load(tree["average"])
        self.precision.load(tree["precision"])
        self.state = TrainState.from_json(data["train"])
        self.selection.load(data["selection"])
        own = tree["processes"][self.world.rank]
        self.sums.load(own["losses"], self.device)
        set_random_state(own["random"])
        self._saved_at, self._last_good = self.state.step, folder
        return int(data["log_bytes"])

    def _finish(self, reason: StopReason) -> None:
        interrupted = reason in ("SIGINT", "SIGTERM")
        if not interrupted:
            if self.sums.batches:
                self._write_losses()
            self._evaluate()
        self._save()
        if interrupted:
            return
        best = self.selection.best.best_step
        if self.selection.exports_best and best is not None and best != self.state.step:
            folder = self.store.path(best)
            data = read_state(folder)
            load_model(self.model, folder, data)
            if self.average is not None:
                self.average.load(load_optimizer(folder, data)["average"])
        if self.average is not None:
            self.average.apply()

    def _total_steps(self) -> int | None:
        per_epoch = self.train.batches_per_epoch
        by_epochs = None
        if self.num_epochs and per_epoch is not None:
            by_epochs = self.num_epochs * -(-per_epoch // self.config.gradient_accumulation_steps)
        return min((n for n in (self.config.num_steps, by_epochs) if n), default=None)

    # ---- the loop --------------------------------------------------------------------------------------------------

    def _epoch(self) -> StopReason | None:
        """From the current position to the end of the epoch, or of training."""
        state, accumulate = self.state, self.config.gradient_accumulation_steps
        pending = 0
        # Closed on every way out, so that a loader's thread does not outlive it.
        with closing(_generator(self.train.epoch(state.epoch, state.batch))) as batches:
            for batch in batches:
                if pending == 0:
                    self.optimizers.set_rates(state.step)
                self._backward(batch)
                state.batch += 1
                pending += 1
                if pending == accumulate:
                    pending = 0
                    reason = self._update(accumulate)
                    if reason is not None:
                        return reason
        if pending:
            reason = self._update(pending)
            if reason is not None:
                return reason
        if state.batch == 0:
            raise TrainingError(
                f"An epoch needs at least one batch. Received none in epoch {state.epoch}. Check train_input_path, the "
                "filters, and drop_remainder with a batch_size above the number of rows."
            )
        state.epoch, state.batch = state.epoch + 1, 0
        return self._epoch_ended()

    def _backward(self, batch: Batch) -> None:
        rows = batch.size
        share = self.world.row_share(rows)
        if not rows and not self.world.alone:
            self.sums.batches += 1
            return
        batch = batch.to(self.device, non_blocking=True)
        with self.precision.forward():
            losses = self.model.losses(self.model(batch), batch)  # type: ignore[operator]
        if share != 1.0:
            # Means over this process's rows become its parts of the mean over all; sums are such parts already.
            losses = {name: loss if name in self._summed else loss * share for name, loss in losses.items()}
        if not self.sums.add(losses, rows):
            raise self._not_a_number({name: loss.item() for name, loss in losses.items()})
        self.precision.backward(_sum(losses))

    def _update(self, batches: int) -> StopReason | None:
        state, optimizers = self.state, self.optimizers
        if not self.world.alone:
            optimizers.sum_over(self.world)
        if self.precision.scaler is None:
            self._clip_and_step(batches)
        else:
            self.precision.update(optimizers.with_gradients(), lambda: self._clip_and_step(batches))
        optimizers.zero_grad()
        if self.average is not None:
            self.average.update()
        self.world.average(self._statistics)  # so that all processes evaluate one model
        state.step += 1
        return self._after_update()

    def _clip_and_step(self, batches: int) -> None:
        largest = self.config.gradient_clipping_by_norm
        if batches > 1:
            self.optimizers.scale(1.0 / batches)
        if largest:
            norm = self.optimizers.norm()
            if self.device.type != "cpu":
                self.optimizers.scale(largest / norm.clamp(min=largest))
            elif not norm.isfinite():
                raise self._not_a_number(self.sums.read(), "the gradient's norm")
            elif norm > largest:
                self.optimizers.scale(largest / norm.item())
        self.optimizers.step()

    def _after_update(self) -> StopReason | None:
        state, config = self.state, self.config
        step = state.step
        if step % config.log_step_count_steps == 0:
            self._write_losses()
        self.recorder.updated(step)
        reason: StopReason | None = None
        if step == config.num_steps:
            reason = "num_steps"
        due = self._save_is_due(step)
        if reason is not None or (step % config.eval_steps == 0 if config.eval_steps else due):
            self._evaluate()
        if due:
            self._save()
        return reason or self._asked_to_stop()

    def _epoch_ended(self) -> StopReason | None:
        """Counted in epochs, a run evaluates at their ends; counted in steps, at its checkpoints."""
        config = self.config
        self._release()
        done = self._done()
        by_epochs = self.num_epochs > 0 or not config.save_checkpoints_steps
        if done is not None or (by_epochs and not config.eval_steps and self.state.epoch % config.eval_epochs == 0):
            self._evaluate()
        if done is None and not config.save_checkpoints_steps and not config.save_checkpoints_secs:
            self._save()
        return done or self._asked_to_stop()

    def _done(self) -> StopReason | None:
        """Whether the position itself says that training has ended."""
        if self.config.num_steps and self.state.step >= self.config.num_steps:
            return "num_steps"
        if self.num_epochs and self.state.epoch >= self.num_epochs:
            return "num_epochs"
        return "early_stop" if self.selection.should_stop(self.state.evaluated) else None

    def _asked_to_stop(self) -> StopReason | None:
        if self.selection.should_stop(self.state.evaluated):
            return "early_stop"
        late = self.dead_line is not None and time.time() >= self.dead_line
        wish = self._interrupts.received
        # All processes stop together, whichever of them was asked.
        interrupts, terminations, late_ones = self.world.sum([wish == "SIGINT", wish == "SIGTERM", late])
        if interrupts or terminations:
            return "SIGINT" if interrupts else "SIGTERM"
        return "dead_line" if late_ones else None

    def _save_is_due(self, step: int) -> bool:
        seconds, steps = self.config.save_checkpoints_secs, self.config.save_checkpoints_steps
        if seconds is None:
            return steps > 0 and step % steps == 0
        return self.world.any(time.monotonic() - self._saved_clock >= seconds)

    # ---- evaluation, logs, checkpoints -----------------------------------------------------------------------------

    def _evaluate(self) -> None:
        state = self.state
        if self.evaluate is None or state.evaluated == state.step:
            return
        self._release()
        drawn = random_state()
        modes = [module for module in self.model.modules() if module.training]
        self.model.eval()
        with torch.no_grad(), self.average.applied() if self.average else contextlib.nullcontext():
            try:
                metrics = self.evaluate()
            except EvaluationError as error:
                good = last_good_in_words(self._last_good)
                raise TrainingError(f"The evaluation after step {state.step} failed: {error} {good}") from error
        for module in modes:
            module.training = True
        set_random_state(drawn)  # training draws the same numbers however often it is evaluated
        self._release()
        state.evaluated = state.step
        improved = self.selection.update(state.step, metrics)
        state.last_metrics = {name: metric.value for name, metric in metrics.items()}
        if improved:
            state.best_metrics = dict(state.last_metrics)
        self.recorder.evaluated(state, metrics, improved)
        self._saved_at = -1
        if improved and self.selection.keeps_best:
            self._save()

    def _release(self) -> None:
        if self.device.type == "cpu":
            release_freed_memory()

    def _write_losses(self) -> None:
        losses = self.recorder.losses(self.state, self.sums, self.optimizers.rates(self.state.step - 1))
        if not np.isfinite(losses["loss"]):
            raise self._not_a_number(losses)

    def _save(self) -> None:
        state = self.state
        if self._saved_at == state.step:
            return
        self._check_finite()
        tree = {
            "optimizers": self.optimizers.state(),
            "average": None if self.average is None else self.average.state(),
            "precision": self.precision.state(),
            "processes": self.world.gather_trees({"random": random_state(), "losses": self.sums.state()}),
        }
        if self.world.writes:
            data = {
                "train": state.to_json(),
                "selection": self.selection.state(),
                "schema_hash": self.schema_hash,
                "log_bytes": self.recorder.settle(),
            }
            path = self.store.save(state.step, self.model, tree, data, self.selection.protected())
            self.recorder.saved(state.step, path)
        self._saved_at, self._last_good = state.step, self.store.path(state.step)
        self._saved_clock = time.monotonic()

    def _check_finite(self) -> None:
        sums = self.sums.read()
        if not all(np.isfinite(value) for value in sums.values()):
            raise self._not_a_number(sums)
        name = first_bad_weight(self.model)
        if name is not None:
            raise self._not_a_number({}, f"the weight `{name}`")

    def _not_a_number(self, losses: Mapping[str, float], what: str = "the loss") -> TrainingError:
        return not_a_number(self.state.step + 1, what, losses, self._last_good, self.device.type == "cpu")


def _sum(losses: Mapping[str, Tensor]) -> Tensor:
    values = iter(losses.values())
    total = next(values)
    for value in values:
        total = total + value
    return total


def _generator(batches: Iterator[Batch]) -> Generator[Batch, None, None]:
    yield from batches
