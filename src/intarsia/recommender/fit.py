"""From a pipeline to a fitted recommender in a run folder."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from intarsia.config.load import LoadedConfig
from intarsia.config.resolve import dump_yaml
from intarsia.config.schema import ExportConfig, PipelineConfig
from intarsia.core.errors import CheckpointError, ConfigError, DataError
from intarsia.core.files import exclusive, write_json, write_text
from intarsia.evaluation.evaluate import Evaluation
from intarsia.evaluation.metrics.base import MetricValue
from intarsia.recommender.jobs import Job, open_job
from intarsia.recommender.pipeline import load_pipeline, located, pipeline_from, short_form
from intarsia.recommender.recommender import Recommender
from intarsia.training.distributed import World, join_world
from intarsia.training.protocols import BatchSource, Reporter
from intarsia.training.restore import restore
from intarsia.training.trainer import Trainer, TrainResult

LOG = logging.getLogger("intarsia")


@dataclass(frozen=True)
class Fitted:
    """A finished run.

    Attributes:
        recommender: The bundle, which is saved in the run folder.
        result: How training went.
        evaluations: The exported weights on each part, `valid` and `test` where there are such.
        rows: Rows of each part.
        seconds: Wall time of reading and encoding (`data`), training (`train`) and the final evaluation (`evaluate`).
    """

    recommender: Recommender
    result: TrainResult
    evaluations: dict[str, Evaluation]
    rows: dict[str, int]
    seconds: dict[str, float]


def fit(
    model: str | Path | Mapping[str, Any],
    data: Any = None,
    *,
    valid: Any = None,
    test: Any = None,
    run_dir: str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
) -> Recommender:
    """Trains a model and gives the fitted recommender.

    Args:
        model: Name of a model with a shipped configuration (`DeepFM`), a pipeline file, or a pipeline as a mapping.
        data: Name of a catalogued data set (with a model's name); or a data frame of training rows (with a pipeline).
        valid: Data frame of validation rows, where `data` is one.
        test: Data frame of test rows, where `data` is one.
        run_dir: Folder of the run. Default: `model_dir` of the pipeline, else a folder in `runs/`.
        overrides: Values to set, each `path=value`, such as `train_config.num_epochs=3`.
        resume: Whether to go on with a run that was interrupted.

    Raises:
        ConfigError: The pipeline is wrong; all problems at once.
        DataError: The data are missing or break a rule.
        TrainingError: Training cannot go on.

    Example:
        >>> rec = intarsia.fit("DeepFM", data="ml-100k")          # doctest: +SKIP
        >>> rec.recommend(history=[[50, 181, 258]], k=10)         # doctest: +SKIP
    """
    loaded, frames = _loaded(model, data, overrides)
    parts = {name: frame for name, frame in (("valid", valid), ("test", test)) if frame is not None}
    if parts and frames is None:
        raise DataError(
            f"`valid` and `test` are data frames beside `data`. Received: {', '.join(parts)} without a data frame as "
            "`data`. Give the training rows too, or name files in the pipeline."
        )
    frames = None if frames is None else frames | parts
    return run(loaded, run_dir=run_dir, frames=frames, resume=resume).recommender


def _loaded(model: str | Path | Mapping[str, Any], data: Any, overrides: Sequence[str]) -> tuple[LoadedConfig, Any]:
    frames = None if data is None or isinstance(data, str) else {"train": data}
    if isinstance(model, Mapping):
        return pipeline_from(model, overrides), frames
    text = str(model)
    if isinstance(data, str):
        return short_form(text, data, overrides), None
    if Path(text).suffix:
        return load_pipeline(text, overrides), frames
    raise DataError(f"`{text}` is the name of a model, so `data` must name a data set, such as 'ml-100k'.")


def run(
    loaded: LoadedConfig,
    *,
    run_dir: str | Path | None = None,
    frames: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
    tensorboard: bool = False,
) -> Fitted:
    """Prepares data, trains, evaluates, saves; see `fit`.

    Args:
        loaded: A checked pipeline.
        run_dir: Folder of the run.
        frames: Data frames instead of files, by part.
        resume: Whether to go on from the latest checkpoint of the folder.
        overwrite: Whether a folder with another run's checkpoints is emptied.
        reporter: Is told of progress.
        tensorboard: Whether TensorBoard files are written too.
    """
    config = loaded.config
    folder = Path(run_dir or config.model_dir or _default_folder(loaded))
    use_gpu = torch.cuda.is_available() and config.train_config.device.startswith(("auto", "cuda"))
    world = join_world("cuda" if use_gpu else "cpu")
    with ExitStack() as stack:
        if world.writes:
            _refuse_mixing(folder, resume, overwrite)
            if not stack.enter_context(exclusive(folder)):
                raise ConfigError(f"another process is training into {folder}. Wait for it, or choose another folder.")
        return _run(loaded, folder, world, frames, resume, overwrite, reporter, tensorboard)


def _run(
    loaded: LoadedConfig,
    folder: Path,
    world: World,
    frames: Mapping[str, Any] | None,
    resume: bool,
    overwrite: bool,
    reporter: Reporter | None,
    tensorboard: bool,
) -> Fitted:
    config = loaded.config
    started = time.perf_counter()
    with located(loaded.source):
        job = open_job(config, frames=frames, rank=world.rank, world_size=world.size)
    seconds = {"data": time.perf_counter() - started}
    seed_everything(config.train_config.seed)
    with located(loaded.source):
        model = job.build()
        batches = job.training()
    before = None
    if world.writes:
        # Only now, when data and model are known to be good, may the folder's content change.
        if overwrite and not resume:
            _empty(folder)
        before = _read_text(folder / "pipeline.yaml")
        write_text(folder / "pipeline.yaml", dump_yaml(config))
    if config.train_config.fine_tune_checkpoint and not resume:
        train = config.train_config
        report = restore(
            model,
            train.fine_tune_checkpoint,
            var_map=train.fine_tune_ckpt_var_map or None,
            restore_filters=config.model.restore_filters,
            force_shape_compatible=train.force_restore_shape_compatible,
        )
        if reporter is not None:
            reporter.message(str(report))
    started = time.perf_counter()
    result = _COMPUTED
    if batches is not None:
        result = _train(model, batches, job, config, folder, world, before, resume, reporter, tensorboard)
    job.solve()
    seconds["train"] = time.perf_counter() - started
    started = time.perf_counter()
    evaluations = {part: job.measure(part) for part in job.parts}
    seconds["evaluate"] = time.perf_counter() - started
    metrics = {part: {n: v.value for n, v in e.values.items()} for part, e in evaluations.items()}
    if world.writes:
        job.keep(folder)
    if config.export_config.refit:
        started = time.perf_counter()
        job = _refit(job, result, batches, config, folder, world, reporter)
        seconds["refit"] = time.perf_counter() - started
    recommender = job.bundle(metrics)
    if world.writes:
        recommender.save(folder / "bundle")
        write_json(
            folder / "result.json",
            {
                "metrics": metrics,
                "rows": job.rows,
                "steps": result.steps,
                "epochs": result.epochs,
                "best_step": result.best_step,
                "stopped_because": result.stopped_because,
                "seconds": {name: round(value, 3) for name, value in seconds.items()},
            },
        )
    recommender.folder = folder
    return Fitted(recommender, result, evaluations, job.rows, seconds)


def _refit(
    job: Job,
    result: TrainResult,
    batches: BatchSource | None,
    config: PipelineConfig,
    folder: Path,
    world: World,
    reporter: Reporter | None,
) -> Job:
    """A job whose model has learned from all data, for as many passes as the best evaluation of `result` had."""
    whole = job.whole()
    seed_everything(config.train_config.seed)
    model = whole.build()
    again = whole.training()
    if again is not None and batches is not None:
        per_epoch = batches.batches_per_epoch or 1
        updates = -(-per_epoch // config.train_config.gradient_accumulation_steps)
        passes = max(1, round((result.best_step or result.steps) / updates))
        alone = {"num_epochs": passes, "num_steps": 0, "early_stop": None, "eval_steps": 0}
        train = config.train_config.model_copy(update=alone)
        fresh = config.model_copy(update={"train_config": train, "export_config": ExportConfig()})
        if world.writes:
            shutil.rmtree(folder / "refit", ignore_errors=True)
        _train(model, again, whole, fresh, folder / "refit", world, None, False, reporter, False)
    whole.solve()
    return whole


_COMPUTED = TrainResult(0, 0, None, {}, {}, "computed", [])
"""How the training of a model without gradients ends."""


def _train(
    model: torch.nn.Module,
    batches: BatchSource,
    job: Job,
    config: PipelineConfig,
    folder: Path,
    world: World,
    before: str | None,
    resume: bool,
    reporter: Reporter | None,
    tensorboard: bool,
) -> TrainResult:
    """Trains a gradient model; `before` is the pipeline of the run that the folder held."""
    trainer = Trainer(
        model,
        config.train_config,
        run_dir=folder,
        train=batches,
        evaluate=_evaluator(job, config) if job.parts else None,
        num_epochs=_num_epochs(config),
        export=config.export_config,
        reporter=reporter,
        world=world,
        schema_hash=_digest(job.schema.to_json()),
        tensorboard=tensorboard,
    )
    try:
        return trainer.fit(resume=resume)
    except CheckpointError:
        if before is not None and trainer.state.step == 0:
            write_text(folder / "pipeline.yaml", before)  # the checkpoints are of that pipeline
        raise


def _evaluator(job: Job, config: PipelineConfig) -> Any:
    """Evaluates on the validation part, or on the test part where there is no other."""
    part = "valid" if "valid" in job.parts else "test"

    early = config.train_config.early_stop
    told = False

    def measure() -> dict[str, MetricValue]:
        nonlocal told
        values = job.measure(part).values
        followed = values.get(early.metric) if early is not None else None
        if early is not None and followed is not None and followed.value is None and not told:
            told = True
            LOG.warning(
                "train_config.early_stop follows %s, which is %s. An undefined value is no improvement: training stops "
                "after %d such evaluations (patience). Follow another metric, or give other validation rows.",
                early.metric,
                followed.note or "undefined",
                early.patience,
            )
        return values

    return measure


def seed_everything(seed: int) -> None:
    """Seeds Python's, NumPy's and torch's global generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - some libraries still draw from it
    torch.manual_seed(seed)


def _num_epochs(config: PipelineConfig) -> int:
    wanted = config.train_config.num_epochs
    return config.data_config.num_epochs if wanted is None else wanted


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _default_folder(loaded: LoadedConfig) -> Path:
    name = Path(loaded.source.name).stem if loaded.source.name else loaded.config.model.model_class
    return Path("runs") / name.replace(" ", "-").lower()


def _refuse_mixing(folder: Path, resume: bool, overwrite: bool) -> None:
    """Refuses to mix a new run with another one of the same folder."""
    checkpoints = folder / "checkpoints"
    has_checkpoints = checkpoints.is_dir() and any(checkpoints.iterdir())
    if resume or overwrite or not (has_checkpoints or (folder / "bundle" / "bundle.json").exists()):
        return
    held = "checkpoints" if has_checkpoints else "the bundle"
    raise ConfigError(
        f"the run folder {folder} holds {held} of another run. Go on with --resume, start anew with --overwrite, or "
        "choose another folder."
    )


def _empty(folder: Path) -> None:
    """Removes another run's results."""
    for name in ("checkpoints", "bundle", "tensorboard", "refit"):
        shutil.rmtree(folder / name, ignore_errors=True)
    evaluations = [f"evaluation_{part}.{kind}" for part in ("valid", "test") for kind in ("json", "parquet")]
    for name in ("metrics.jsonl", "result.json", *evaluations):
        (folder / name).unlink(missing_ok=True)


def _read_text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
