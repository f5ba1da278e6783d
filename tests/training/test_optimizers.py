import pytest
import torch
import toy
from torch import nn

from intarsia.core.errors import ConfigError
from intarsia.training.optimizers import build_optimizers, make_dense_optimizer, moving_average_decay

TABLES = ("embeddings.tables.item", "embeddings.tables.user")
KINDS = ["sgd", "momentum", "momentumw", "adam", "adamw", "lazy_adam", "adagrad", "rowwise_adagrad", "rms_prop", "ftrl"]


def build(model, **options):
    return build_optimizers(model, toy.train_config(**({"learning_rate": None} | options)))


def backward(model, rows=slice(0, 8)):
    batch = toy.Rows().take(rows)
    sum(model.losses(model(batch), batch).values()).backward()


def config(kind, rate, **options):
    return {f"{kind}_optimizer": {"learning_rate": rate}, **options}


@pytest.mark.parametrize("kind", KINDS)
def test_every_optimizer_learns(kind):
    model = toy.ToyModel(dropout=0.0)
    optimizers = build(model, optimizer_config=[config(kind, 0.05)])
    losses = []
    for step in range(30):
        batch = toy.Rows().take(slice(None))
        loss = sum(model.losses(model(batch), batch).values())
        losses.append(loss.item())
        optimizers.set_rates(step)
        loss.backward()
        optimizers.step()
        optimizers.zero_grad()
    assert losses[-1] < losses[0] - 0.02


def test_first_steps_by_hand():
    """g = 2 at w = 1, rate 0.1."""
    expected = {
        "sgd": 1 - 0.1 * 2,
        "momentum": 1 - 0.1 * 2,
        "adam": 1 - 0.1,  # the first step of Adam is the rate
        "adagrad": 1 - 0.1 * 2 / (0.1 + 4) ** 0.5,
        "rms_prop": 1 - 0.1 * 2 / ((0.1 * 4) ** 0.5 + 1),
        "adamw": 1 * (1 - 0.1 * 0.5) - 0.1,
        "momentumw": 1 * (1 - 0.1 * 0.5) - 0.1 * 2,
    }
    for kind, value in expected.items():
        message = {"learning_rate": 0.1, **({"weight_decay": 0.5} if kind.endswith("w") else {})}
        options = toy.train_config(learning_rate=None, optimizer={kind: message}).optimizer.chosen[1]
        p = nn.Parameter(torch.ones(1))
        p.grad = torch.full((1,), 2.0)
        make_dense_optimizer(kind, options, [p]).step()
        assert p.item() == pytest.approx(value, rel=1e-5), kind


def test_momentum_gathers_speed():
    options = toy.train_config(learning_rate=None, optimizer={"momentum": {"learning_rate": 0.1}}).optimizer.chosen[1]
    p = nn.Parameter(torch.zeros(1))
    optimizer = make_dense_optimizer("momentum", options, [p])
    for _ in range(3):
        p.grad = torch.ones(1)
        optimizer.step()
    assert p.item() == pytest.approx(-0.1 * (1 + 1.9 + 2.71))


def rates_and_kinds(optimizers):
    return {part.rate_name: (type(part.optimizer).__name__, part.schedule(0)) for part in optimizers.table_parts}


def test_one_two_and_three_messages():
    one = build(toy.ToyModel(), optimizer_config=[config("adagrad", 0.1)])
    assert type(one.dense).__name__ == "Adagrad"
    assert rates_and_kinds(one) == {"lr_tables": ("SparseAdagrad", 0.1)}
    assert one.rates(0) == {"lr": 0.1}
    two = build(toy.ToyModel(), optimizer_config=[config("adagrad", 0.1), config("adam", 0.2)])
    assert type(two.dense).__name__ == "Adam"
    assert rates_and_kinds(two) == {"lr_tables": ("SparseAdagrad", 0.1)}
    assert two.rates(0) == {"lr": 0.2, "lr_tables": 0.1}
    three = build(
        toy.ToyModel(wide=True), optimizer_config=[config("ftrl", 0.3), config("adagrad", 0.1), config("adam", 0.2)]
    )
    assert rates_and_kinds(three) == {"lr_wide": ("SparseFtrl", 0.3), "lr_tables": ("SparseAdagrad", 0.1)}
    served = {part.rate_name: part.optimizer.state_dict()["tables"].keys() for part in three.table_parts}
    assert served == {"lr_wide": {"item"}, "lr_tables": {"user"}}


def test_the_shorthand_and_its_rate():
    optimizers = build(toy.ToyModel(), optimizer="sgd", learning_rate=0.25)
    assert type(optimizers.dense).__name__ == "DecoupledSgd"
    assert optimizers.rates(5) == {"lr": 0.25}
    assert build(toy.ToyModel()).rates(0) == {"lr": 0.002}  # Adam
    decay = {"exponential_decay_learning_rate": {"initial_learning_rate": 1, "decay_steps": 1, "decay_factor": 0.5}}
    assert build(toy.ToyModel(), learning_rate=decay).rates(2) == {"lr": 0.25}


def test_multiplier_scales_the_rate_of_tables_only():
    model = toy.ToyModel(dropout=0.0)
    message = {**config("sgd", 0.5), "embedding_learning_rate_multiplier": 0.0}
    optimizers = build(model, optimizer_config=[message])
    assert optimizers.rates(0) == {"lr": 0.5, "lr_tables": 0.0}
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizers.set_rates(0)
    backward(model)
    optimizers.step()
    after = model.state_dict()
    assert torch.equal(before["embeddings.tables.item"], after["embeddings.tables.item"])
    assert not torch.equal(before["hidden.weight"], after["hidden.weight"])


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        (["^hidden"], {"hidden.weight", "hidden.bias"}),
        (["^item$"], {"embeddings.tables.item"}),
        ([r"embeddings\.", "bias"], {*TABLES, "hidden.bias", "out.bias", "norm.bias"}),
    ],
)
def test_frozen_parameters_and_tables_stay(patterns, kept):
    model = toy.ToyModel(dropout=0.0)
    optimizers = build(model, freeze_gradient=patterns, optimizer="adamw")
    learning = {name for name in model.state_dict() if "running" not in name and "batches" not in name}
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizers.set_rates(0)
    backward(model)
    optimizers.step()
    same = {name for name in learning if torch.equal(before[name], model.state_dict()[name])}
    assert same == kept


def test_a_pattern_that_matches_nothing_lists_near_names():
    with pytest.raises(ConfigError) as error:
        build(toy.ToyModel(), freeze_gradient=["^hidxden"])
    text = str(error.value)
    assert "Received `^hidxden`, which matches none of 8. Nearest names: hidden.bias, hidden.weight" in text
    with pytest.raises(ConfigError, match=r"Received `\(hidden`: missing \), unterminated subpattern"):
        build(toy.ToyModel(), freeze_gradient=["(hidden"])


def test_everything_frozen_is_an_error():
    with pytest.raises(ConfigError, match="needs at least one parameter that learns"):
        build(toy.ToyModel(), freeze_gradient=["."])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"optimizer": "adam", "optimizer_config": [{}]}, "or `train_config.optimizer_config`, not both"),
        ({"optimizer_config": [{}] * 4}, "takes one to three messages. Received 4."),
        (
            {"optimizer_config": [{"adam_optimizer": {}, "sgd_optimizer": {}}]},
            "takes one optimizer. Received sgd_optimizer, adam_optimizer.",
        ),
        (
            {"optimizer_config": [config("adam", 0.1)], "learning_rate": 0.2},
            "or the `learning_rate` inside of `adam_optimizer`, not both",
        ),
        ({"optimizer_config": [{}] * 3}, "Received a model without wide tables. Write two, or one."),
    ],
)
def test_contradictions(options, text):
    with pytest.raises(ConfigError) as error:
        build(toy.ToyModel(), **options)
    assert text in str(error.value)


def test_norm_and_scale_see_dense_and_sparse_gradients_with_repeated_ids_summed():
    model = toy.ToyModel(dropout=0.0)
    optimizers = build(model)
    backward(model, slice(0, 30))
    dense = [p.grad.clone() for p in optimizers.dense_parameters.values()]
    tables = [w.grad.to_dense()[:-1] for w in optimizers.tables.weights]  # without the row of missing ids
    expected = torch.cat([g.flatten() for g in dense + tables]).norm()
    assert optimizers.norm().item() == pytest.approx(expected.item(), rel=1e-6)
    optimizers.scale(0.5)
    assert optimizers.norm().item() == pytest.approx(expected.item() / 2, rel=1e-6)


def test_moving_average_is_told_by_the_message_of_the_rest():
    assert moving_average_decay(toy.train_config()) is None
    pair = [{}, {"use_moving_average": True, "moving_average_decay": 0.5}]
    assert moving_average_decay(toy.train_config(learning_rate=None, optimizer_config=pair)) == 0.5


def test_a_model_of_tables_only_and_one_without_tables():
    class OnlyTables(toy.ToyModel):
        def __init__(self):
            super().__init__()
            self.hidden = self.norm = self.drop = self.out = None

    only = build(OnlyTables(), optimizer="sgd")
    assert only.dense is None
    assert only.rates(0) == {"lr": 0.002}
    dense = build(nn.Linear(2, 1), optimizer="sgd")
    assert dense.table_parts == []
    dense.dense_parameters["weight"].grad = torch.tensor([[3.0, 4.0]])
    assert dense.norm() == 5


def test_l2_of_whole_tables_reaches_the_tables_of_its_message():
    message = {**config("sgd", 0.5), "embedding_l2": 0.25}
    optimizers = build(toy.ToyModel(wide=True), optimizer_config=[config("ftrl", 0.3), message, config("adam", 0.2)])
    slots = {part.rate_name: part.optimizer.state_dict()["tables"] for part in optimizers.table_parts}
    assert {name: set(table) for name, table in slots["lr_tables"].items()} == {"user": {"l2_paid"}}
    assert {name: set(table) for name, table in slots["lr_wide"].items()} == {"item": {"sum", "linear"}}


def test_l2_of_tables_in_the_message_of_the_rest_is_an_error():
    rest = {**config("adam", 0.2), "embedding_l2": 0.25}
    with pytest.raises(ConfigError, match=r"serves no tables. Received `embedding_l2: 0.25` in the last of 2"):
        build(toy.ToyModel(), optimizer_config=[config("sgd", 0.5), rest])
