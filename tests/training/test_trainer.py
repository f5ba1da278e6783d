import math
import signal
import threading
import time
from types import SimpleNamespace

import pytest
import torch
import toy
from torch import nn

from intarsia.core.errors import ConfigError, TrainingError
from intarsia.data.loader import Loader
from intarsia.training.checkpoint import CheckpointStore, load_model, load_optimizer, read_state


def value(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def steps_of(run_dir, kind):
    return [row["step"] for row in toy.log_rows(run_dir, kind)]


class Scripted:
    """An evaluation that gives listed values."""

    def __init__(self, values, name="auc"):
        self.values = iter(values)
        self.name = name

    def __call__(self):
        return {self.name: SimpleNamespace(value=next(self.values))}


# ---- how long --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "steps", "done", "reason"),
    [
        (0, 0, 7, "num_epochs"),  # one epoch of 7 batches
        (2, 0, 14, "num_epochs"),
        (0, 10, 10, "num_steps"),  # goes round
        (2, 10, 10, "num_steps"),
        (1, 10, 7, "num_epochs"),
        (1, 7, 7, "num_steps"),
    ],
)
def test_steps_and_epochs(tmp_path, epochs, steps, done, reason):
    result = toy.make(tmp_path, num_epochs=epochs, num_steps=steps, evaluate=False).fit()
    assert (result.steps, result.stopped_because) == (done, reason)
    assert CheckpointStore(tmp_path).steps() == [done]


def test_a_source_of_unknown_length(tmp_path):
    class Stream(Loader):
        batches_per_epoch = None

        def epoch(self, epoch, start_batch=0):
            return iter([toy.Rows().take(slice(8 * n, 8 * n + 8)) for n in range(start_batch, 3)])

    result = toy.make(tmp_path, num_epochs=2, source=Stream(toy.Rows(), 8)).fit()
    assert (result.steps, result.epochs) == (6, 2)


def test_no_batches_is_an_error(tmp_path):
    source = Loader(toy.Rows(5), 8, drop_remainder=True)
    with pytest.raises(TrainingError, match=r"at least one batch. Received none in epoch 0\. .*drop_remainder"):
        toy.make(tmp_path, source=source).fit()


def test_the_dead_line(tmp_path):
    result = toy.make(tmp_path, num_steps=50, dead_line="20200101 00:00:00").fit()
    assert (result.steps, result.stopped_because) == (1, "dead_line")
    with pytest.raises(ConfigError, match=r"written `YYYYMMDD HH:MM:SS`. Received `2020-01-01`"):
        toy.make(tmp_path, dead_line="2020-01-01")


# ---- when to evaluate and to save ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "evaluated", "saved"),
    [
        ({"num_epochs": 2, "save_checkpoints_steps": 5}, [5, 7, 10, 14], [5, 10, 14]),
        ({"num_epochs": 2, "save_checkpoints_steps": 0}, [7, 14], [7, 14]),
        ({"num_epochs": 2, "save_checkpoints_steps": 5, "eval_steps": 4}, [4, 8, 12, 14], [5, 10, 14]),
        # counted in steps: ends of passes over the data mean nothing
        ({"num_steps": 12, "save_checkpoints_steps": 5}, [5, 10, 12], [5, 10, 12]),
        ({"num_steps": 10, "save_checkpoints_steps": 5}, [5, 10], [5, 10]),
        ({"num_steps": 9, "save_checkpoints_steps": 100, "eval_steps": 3}, [3, 6, 9], [9]),
    ],
)
def test_evaluations_and_checkpoints(tmp_path, options, evaluated, saved):
    result = toy.make(tmp_path, **options).fit()
    assert steps_of(tmp_path, "eval") == evaluated
    assert [row["step"] for row in result.history] == evaluated
    assert CheckpointStore(tmp_path).steps() == saved


def test_checkpoints_by_the_clock(tmp_path):
    result = toy.make(tmp_path, num_steps=4, save_checkpoints_secs=1e-9, keep_checkpoint_max=3, evaluate=False).fit()
    assert CheckpointStore(tmp_path).steps() == [2, 3, 4]
    assert result.steps == 4


def test_the_log_has_means_over_each_interval(tmp_path):
    seen = []

    class Model(toy.ToyModel):
        def losses(self, predictions, batch):
            losses = super().losses(predictions, batch)
            seen.append({name: loss.item() for name, loss in losses.items()})
            return losses

    toy.make(tmp_path, Model(), num_epochs=1, log_step_count_steps=3, evaluate=False, learning_rate=0.25).fit()
    rows = toy.log_rows(tmp_path, "train")
    assert [row["step"] for row in rows] == [3, 6, 7]
    for row, part in zip(rows, (seen[:3], seen[3:6], seen[6:])):
        for name in ("logloss", "l2"):
            assert row[name] == pytest.approx(sum(one[name] for one in part) / len(part), rel=1e-12)
        assert row["loss"] == pytest.approx(row["logloss"] + row["l2"], rel=1e-12)
        assert row["lr"] == 0.25


# ---- what is best, and when to stop ----------------------------------------------------------------------------------


def test_best_weights_are_left_in_the_model(tmp_path):
    trainer = toy.make(
        tmp_path,
        num_steps=12,
        eval_steps=2,
        keep_checkpoint_max=1,
        evaluate=Scripted([0.5, 0.9, 0.7, None, 0.8, 0.6]),
        export={"exporter_type": "best"},
    )
    result = trainer.fit()
    assert (result.best_step, result.best_metrics, result.last_metrics) == (4, {"auc": 0.9}, {"auc": 0.6})
    assert CheckpointStore(tmp_path).steps() == [4, 12]  # the best one is kept beside the newest
    other = toy.ToyModel(seed=5)
    load_model(other, CheckpointStore(tmp_path).path(4))
    assert same(value(trainer.model), value(other))


def test_last_weights_are_left_by_default(tmp_path):
    trainer = toy.make(tmp_path, num_steps=4, eval_steps=2, evaluate=Scripted([0.9, 0.1]))
    trainer.fit()
    other = toy.ToyModel(seed=5)
    load_model(other, CheckpointStore(tmp_path).path(4))
    assert same(value(trainer.model), value(other))


def test_early_stop(tmp_path):
    trainer = toy.make(
        tmp_path,
        num_steps=100,
        eval_steps=2,
        evaluate=Scripted([0.5, 0.9, 0.7, None, 0.8]),
        early_stop={"metric": "auc", "patience": 2},
    )
    result = trainer.fit()
    assert (result.steps, result.stopped_because, result.best_step) == (8, "early_stop", 4)


def test_easyrec_early_stop(tmp_path):
    export = {"enable_early_stop": True, "max_check_steps": 5, "best_exporter_metric": "rmse", "metric_bigger": False}
    evaluate = Scripted([0.5, 0.4, 0.7, 0.6, 0.5], "rmse")
    result = toy.make(tmp_path, num_steps=100, eval_steps=2, evaluate=evaluate, export=export).fit()
    assert (result.steps, result.stopped_because, result.best_step) == (10, "early_stop", 4)


def test_an_unknown_metric_is_told_at_the_first_evaluation(tmp_path):
    trainer = toy.make(tmp_path, num_steps=100, eval_steps=2, early_stop={"metric": "ndcg@10"})
    with pytest.raises(ConfigError) as error:
        trainer.fit()
    assert "Received `ndcg@10`; the evaluation gives: accuracy, logloss, gauc." in str(error.value)
    assert trainer.state.step == 2


def test_evaluating_does_not_disturb_training(tmp_path):
    often = toy.make(tmp_path / "a", num_steps=9, eval_steps=1)
    never = toy.make(tmp_path / "b", num_steps=9, evaluate=False)
    often.fit()
    never.fit()
    assert same(value(often.model), value(never.model))


def test_frozen_modes_survive_an_evaluation(tmp_path):
    model = toy.ToyModel()
    seen = []

    def on_event(name, values):
        seen.append((model.training, model.drop.training))

    toy.make(tmp_path, model, num_steps=2, eval_steps=1, on_event=on_event).fit()
    assert set(seen) == {(True, True)}


# ---- one update ------------------------------------------------------------------------------------------------------


def plain(seed=0):
    """No dropout and no batch norm, so that batches can be cut up without a difference."""
    model = toy.ToyModel(seed=seed, dropout=0.0)
    model.norm = nn.Identity()
    return model


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adagrad"])
def test_accumulation_equals_one_large_batch(tmp_path, optimizer):
    large, small = plain(), plain()
    options = {"evaluate": False, "optimizer": optimizer, "learning_rate": 0.1, "num_steps": 3}
    toy.make(tmp_path / "a", large, rows=48, batch_size=16, **options).fit()
    toy.make(tmp_path / "b", small, rows=48, batch_size=4, gradient_accumulation_steps=4, **options).fit()
    for name, tensor in value(large).items():
        assert torch.allclose(tensor, value(small)[name], atol=1e-5), name


def test_the_last_incomplete_accumulation_is_a_mean_too(tmp_path):
    """5 batches of 8 with 4 accumulated: the second update is one batch, by itself."""
    one, other = plain(), plain()
    batches = [toy.Rows().take(slice(start, start + 8)) for start in range(0, 40, 8)]

    class Source:
        batches_per_epoch = 5

        def epoch(self, epoch, start_batch=0):
            return iter(batches[start_batch:])

    options = {"evaluate": False, "optimizer": "sgd", "learning_rate": 0.5}
    result = toy.make(tmp_path, one, source=Source(), num_epochs=1, gradient_accumulation_steps=4, **options).fit()
    assert result.steps == 2
    optimizer = torch.optim.SGD([p for p in other.parameters() if p.ndim < 2 or p.shape[1] != toy.WIDTH], 0.5)
    weight = other.embeddings.fused_weight(next(iter(other.embeddings.fused)))
    for group in (batches[:4], batches[4:]):
        for batch in group:
            (sum(other.losses(other(batch), batch).values()) / len(group)).backward()
        optimizer.step()
        with torch.no_grad():
            weight[:-1] -= 0.5 * weight.grad.to_dense()[:-1]
        optimizer.zero_grad()
        weight.grad = None
    for name, tensor in value(one).items():
        assert torch.allclose(tensor, value(other)[name], atol=1e-6), name


def test_clipping_bounds_the_whole_gradient(tmp_path):
    """With SGD and rate 1 a step moves the weights by the gradient: dense and tables together by the bound."""
    moved = {}
    for bound in (0.0, 0.01, 1e6):
        model = plain()
        before = value(model)
        options = {"evaluate": False, "optimizer": "sgd", "learning_rate": 1.0, "num_steps": 1}
        toy.make(tmp_path / str(bound), model, gradient_clipping_by_norm=bound, **options).fit()
        change = torch.cat([(value(model)[name] - before[name]).flatten() for name in before])
        moved[bound] = change
    assert moved[0.01].norm().item() == pytest.approx(0.01, rel=1e-3)
    assert moved[0.0].norm() > 0.02
    assert torch.equal(moved[0.0], moved[1e6])
    cosine = nn.functional.cosine_similarity(moved[0.0], moved[0.01], dim=0)
    assert cosine.item() == pytest.approx(1, abs=1e-4)


def test_moving_average_is_evaluated_and_exported_but_not_trained(tmp_path):
    seen = []
    model = plain()

    def evaluate():
        seen.append(model.out.weight.detach().clone())
        return {"auc": SimpleNamespace(value=0.5)}

    live = [model.out.weight.detach().clone()]
    table = []

    def on_event(name, values):
        if name == "update":
            live.append(model.out.weight.detach().clone())
            table.append(model.embeddings.weight("user").clone())

    message = {"sgd_optimizer": {"learning_rate": 0.5}, "use_moving_average": True, "moving_average_decay": 0.75}
    trainer = toy.make(
        tmp_path, model, num_steps=4, eval_steps=1, evaluate=evaluate, on_event=on_event,
        learning_rate=None, optimizer_config=[message],
    )  # fmt: skip
    trainer.fit()
    average, expected = live[0], []
    for weight in live[1:]:
        average = 0.75 * average + 0.25 * weight
        expected.append(average)
    for one, other in zip(seen, expected):
        assert torch.allclose(one, other, atol=1e-6)
    assert torch.equal(model.out.weight, seen[-1])  # what is exported
    assert torch.equal(model.embeddings.weight("user"), table[-1])  # tables are exported as they are
    other = plain(seed=1)
    load_model(other, CheckpointStore(tmp_path).path(4))
    assert torch.equal(other.out.weight, live[-1])  # a checkpoint holds the weights that training goes on with


def test_bf16_trains_close_to_float32(tmp_path):
    results = {}
    for kind in ("off", "bf16"):
        results[kind] = toy.make(tmp_path / kind, plain(), num_epochs=4, mixed_precision=kind).fit().last_metrics
    assert results["bf16"]["logloss"] != results["off"]["logloss"]
    assert results["bf16"]["logloss"] == pytest.approx(results["off"]["logloss"], abs=0.02)


def test_fp16_needs_a_gpu(tmp_path):
    with pytest.raises(ConfigError) as error:
        toy.make(tmp_path, mixed_precision="fp16")
    assert "fp16` needs a CUDA device" in str(error.value)
    assert "Received device `cpu`. Use `bf16` or `off`." in str(error.value)


def test_scaled_losses_give_the_same_updates_and_overflows_are_left_out(tmp_path):
    """The scaling that fp16 needs, with torch's scaler for the CPU."""
    models = {}
    for scale in (None, 2.0**20, 2.0**126):
        models[scale] = plain()
        real = models[scale].losses
        models[scale].losses = lambda p, b, real=real: {name: 64 * loss for name, loss in real(p, b).items()}
        trainer = toy.make(
            tmp_path / str(scale), models[scale], num_steps=6, evaluate=False, gradient_clipping_by_norm=0.05
        )
        if scale is not None:
            trainer.precision.scaler = torch.amp.GradScaler("cpu", init_scale=scale, backoff_factor=2.0**-60)
        trainer.fit()
    assert same(value(models[None]), value(models[2.0**20]))  # powers of two change no digit
    overflowed = value(models[2.0**126])  # infinite: the first updates are left out, until the scale is small enough
    assert all(tensor.isfinite().all() for tensor in overflowed.values())
    assert not same(value(models[None]), overflowed)
    assert not same(value(plain()), overflowed)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"`train_config\.device` is `cuda:1`, but torch finds no GPU"):
        toy.make(tmp_path, device="cuda:1")
    with pytest.raises(ConfigError, match=r"is auto, cpu, cuda or cuda:1\. Received `gpu`"):
        toy.make(tmp_path, device="gpu")


@pytest.mark.parametrize("optimizer", ["adagrad", "rowwise_adagrad", "sgd"])
def test_tables_that_are_updated_in_the_backward_pass(tmp_path, optimizer):
    """FBGEMM reads its learning rate in the forward pass: schedules must be set before it."""
    pytest.importorskip("fbgemm_gpu")
    decay = {"exponential_decay_learning_rate": {"initial_learning_rate": 1, "decay_steps": 1, "decay_factor": 0.5}}
    models = {}
    for backend in ("torch", "fbgemm"):
        models[backend] = toy.ToyModel(dropout=0.0, backend=backend)
        toy.make(tmp_path / backend, models[backend], num_steps=5, optimizer=optimizer, learning_rate=decay).fit()
    for name, tensor in value(models["torch"]).items():
        assert torch.allclose(tensor, value(models["fbgemm"])[name], atol=1e-5), name


# ---- what goes wrong -------------------------------------------------------------------------------------------------


class Diverging(toy.ToyModel):
    """Its loss is not a number from one step on."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def losses(self, predictions, batch):
        losses = super().losses(predictions, batch)
        self.left -= self.training
        return losses if self.left > 0 else {**losses, "logloss": losses["logloss"] * math.nan}


def test_a_loss_that_is_not_a_number(tmp_path):
    trainer = toy.make(tmp_path, Diverging(5), num_steps=20, save_checkpoints_steps=2)
    with pytest.raises(TrainingError) as error:
        trainer.fit()
    text = str(error.value)
    good = CheckpointStore(tmp_path).path(4)
    assert "At step 5: the loss must be a finite number. Received losses: logloss = nan, l2 = 0.0" in text
    assert f"The last good checkpoint is {good}." in text
    assert "`train_config.gradient_clipping_by_norm`" in text
    assert CheckpointStore(tmp_path).latest() == good
    read_state(good)


def test_without_a_checkpoint_the_error_says_so(tmp_path):
    with pytest.raises(TrainingError, match=r"At step 1: .* There is no checkpoint yet\."):
        toy.make(tmp_path, Diverging(1), num_steps=20).fit()


def test_no_checkpoint_is_written_from_weights_that_are_not_numbers(tmp_path):
    model = toy.ToyModel()

    def on_event(name, values):
        if name == "update" and values["step"] == 6:
            model.embeddings.weight("user")[1, 2] = math.inf

    with pytest.raises(TrainingError, match=r"the weight `embeddings\.tables\.user` must be a finite number"):
        toy.make(tmp_path, model, num_steps=20, save_checkpoints_steps=3, evaluate=False, on_event=on_event).fit()
    assert CheckpointStore(tmp_path).steps() == [3]


def test_a_gradient_that_is_not_a_number_is_told_before_the_update(tmp_path):
    class Model(toy.ToyModel):
        def losses(self, predictions, batch):
            return {"loss": super().losses(predictions, batch)["logloss"] + (self.out.bias * 0).sqrt().sum()}

    trainer = toy.make(tmp_path, Model(), num_steps=3, gradient_clipping_by_norm=1.0, evaluate=False)
    with pytest.raises(TrainingError, match="At step 1: the gradient's norm must be a finite number"):
        trainer.fit()
    assert all(tensor.isfinite().all() for tensor in value(trainer.model).values())


def test_losses_are_looked_at_later_where_reading_is_dear(tmp_path):
    """As on a GPU: at the log line, and before a checkpoint."""
    trainer = toy.make(tmp_path, Diverging(3), num_steps=20, log_step_count_steps=100, save_checkpoints_steps=4)
    trainer._reset = lambda reset=trainer._reset: (reset(), setattr(trainer.sums, "eager", False))
    with pytest.raises(TrainingError, match=r"At or before|At step 5: the loss must be a finite number"):
        trainer.fit()
    assert trainer.state.step == 4
    assert CheckpointStore(tmp_path).steps() == []


# ---- signals ---------------------------------------------------------------------------------------------------------


def test_sigint_finishes_the_step_and_saves(tmp_path):
    messages = []
    reporter = SimpleNamespace(
        start=lambda **_: None, progress=lambda **_: None, evaluated=lambda **_: None, saved=lambda **_: None,
        message=messages.append, stop=lambda: messages.append("stop"),
    )  # fmt: skip

    def on_event(name, values):
        if name == "update" and values["step"] == 3:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    result = toy.make(tmp_path, num_steps=50, on_event=on_event, reporter=reporter).fit()
    assert (result.steps, result.stopped_because) == (3, "SIGINT")
    assert CheckpointStore(tmp_path).steps() == [3]
    assert steps_of(tmp_path, "eval") == []
    assert messages[0].startswith("SIGINT: finishing the step and saving a checkpoint. Press Ctrl-C again")
    assert messages[-1] == "stop"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_sigint_stops_at_once(tmp_path):
    def evaluate():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        toy.make(tmp_path, num_steps=50, eval_steps=2, evaluate=evaluate).fit()
    assert signal.getsignal(signal.SIGINT) == before
    assert CheckpointStore(tmp_path).steps() == []


def test_training_outside_of_the_main_thread(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(toy.make(tmp_path, num_steps=3).fit()))
    thread.start()
    thread.join()
    assert results[0].steps == 3


def test_the_loader_s_thread_ends_with_training(tmp_path):
    before = threading.active_count()
    toy.make(tmp_path, num_steps=3).fit()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_the_seed_decides_everything(tmp_path):
    weights = []
    for index, seed in enumerate([1, 1, 2]):
        trainer = toy.make(tmp_path / str(index), num_steps=5, seed=seed)
        trainer.fit()
        weights.append(value(trainer.model))
    assert same(weights[0], weights[1])
    assert not same(weights[0], weights[2])


def test_a_checkpoint_holds_the_state_of_every_generator(tmp_path):
    toy.make(tmp_path, num_steps=2).fit()
    folder = CheckpointStore(tmp_path).path(2)
    tree = load_optimizer(folder, read_state(folder))
    assert set(tree["processes"][0]["random"]) >= {"python", "numpy", "torch"}
    assert set(tree["optimizers"]["dense"]) == {n for n, _ in toy.ToyModel().named_parameters() if "deep" not in n}
