import math
from types import MappingProxyType
from typing import Annotated

import pytest
import torch
from torch import Tensor

from intarsia.config.schema.model import LossConfig, LossType
from intarsia.core.errors import BuildError, ConfigError, DataError
from intarsia.core.params import Param
from intarsia.objectives import (
    LOSSES,
    LabelRule,
    LossInputs,
    RankLoss,
    RankLosses,
    catalogue,
    log_loss,
    predict,
    task_of,
    weighted_mean,
)


def one(loss_type: LossType, **options) -> RankLosses:
    num_class = options.pop("num_class", 1)
    return RankLosses([LossConfig(loss_type=loss_type, **options)], num_class=num_class)


def value(losses: dict[str, Tensor]) -> float:
    (scalar,) = losses.values()
    return scalar.item()


# log(3) and -log(3) are the logits of 3/4 and 1/4
LOG3 = math.log(3)


@pytest.mark.parametrize(
    ("loss_type", "logits", "labels", "expected"),
    [
        (LossType.CLASSIFICATION, [LOG3, -LOG3], [1, 1], (math.log(4 / 3) + math.log(4)) / 2),
        (LossType.CLASSIFICATION, [LOG3], [0.5], (math.log(4 / 3) + math.log(4)) / 2),
        (LossType.L2_LOSS, [1.0, 5.0], [3, 2], (4 + 9) / 2),
        (LossType.SIGMOID_L2_LOSS, [LOG3, -LOG3], [1, 1], (1 / 16 + 9 / 16) / 2),
        (LossType.CROSS_ENTROPY_LOSS, [LOG3, -LOG3], [1, 0.5], (math.log(4 / 3) * 1.5 + math.log(4) * 0.5) / 2),
    ],
)
def test_hand_tables(loss_type, logits, labels, expected):
    found = one(loss_type)(torch.tensor(logits), torch.tensor(labels, dtype=torch.float32))
    assert value(found) == pytest.approx(expected, rel=1e-5)


def test_softmax_hand_table():
    logits = torch.tensor([[1.0, 1.0], [3.0, 1.0]]).log()  # probabilities 1/2 1/2, 3/4 1/4
    found = one(LossType.CLASSIFICATION, num_class=2)(logits, torch.tensor([0.0, 1.0]))
    assert value(found) == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_cross_entropy_against_distributions():
    logits = torch.tensor([[1.0, 3.0]]).log()
    found = one(LossType.CROSS_ENTROPY_LOSS, num_class=2)(logits, torch.tensor([[0.0, 1.0]]))
    # both columns say: 3/4 for the truth
    assert value(found) == pytest.approx(math.log(4 / 3), rel=1e-5)
    with pytest.raises(DataError, match=r"same shape. Received: labels \(1,\), probabilities \(1, 2\)"):
        one(LossType.CROSS_ENTROPY_LOSS, num_class=2)(logits, torch.tensor([1.0]))


def test_log_loss_of_a_sure_mistake_is_bounded():
    assert log_loss(torch.tensor(1.0), torch.tensor(0.0)).item() == pytest.approx(-math.log(1e-7), rel=1e-2)


def test_weights_divide_by_the_count_of_nonzero_weights():
    losses = torch.tensor([1.0, 2.0, 100.0])
    assert weighted_mean(losses, torch.tensor([2.0, 4.0, 0.0])).item() == (2 + 8) / 2
    assert weighted_mean(losses, None).item() == pytest.approx(103 / 3)
    assert weighted_mean(losses, torch.zeros(3)).item() == 0
    assert weighted_mean(torch.zeros(0), None).item() == 0


@pytest.mark.parametrize("loss_type", list(LOSSES))
def test_weight_zero_is_absence_and_weights_scale(loss_type):
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(6, generator=generator), torch.tensor([1.0, 0, 1, 0, 0, 1])
    head = one(loss_type)
    weights = torch.tensor([1.0, 1, 1, 1, 0, 0])
    assert value(head(logits, labels, weights)) == pytest.approx(value(head(logits[:4], labels[:4])), rel=1e-6)
    assert value(head(logits, labels, weights * 3)) == pytest.approx(3 * value(head(logits, labels, weights)), rel=1e-6)


def test_predictions():
    binary = predict(torch.tensor([[LOG3], [0.0]]), LossType.CLASSIFICATION)
    assert {k: v.tolist() for k, v in binary.items()} == {
        "logits": pytest.approx([LOG3, 0]),
        "probs": pytest.approx([0.75, 0.5]),
    }
    multi = predict(torch.tensor([[1.0, 3.0, 4.0]]).log(), LossType.CLASSIFICATION, num_class=3)
    assert multi["probs"].tolist() == [pytest.approx([1 / 8, 3 / 8, 4 / 8])]
    assert multi["y"].tolist() == [2]
    assert predict(torch.tensor([7.0]), LossType.L2_LOSS)["y"].tolist() == [7.0]
    assert predict(torch.tensor([-LOG3]), LossType.SIGMOID_L2_LOSS)["y"].tolist() == pytest.approx([0.25])
    assert predict(torch.tensor([1.0], dtype=torch.bfloat16), LossType.L2_LOSS)["y"].dtype == torch.float32
    assert predict(torch.tensor([1.0], dtype=torch.float64), LossType.L2_LOSS)["y"].dtype == torch.float64


def test_logits_that_do_not_fit():
    with pytest.raises(BuildError, match=r"shape \(B,\) or \(B, 1\) with num_class 1. Received: \(4, 2\)"):
        predict(torch.zeros(4, 2), LossType.CLASSIFICATION)
    with pytest.raises(BuildError, match=r"shape \(B, 3\) with num_class 3. Received: \(4,\)"):
        predict(torch.zeros(4), LossType.CLASSIFICATION, num_class=3)


def test_tasks():
    assert task_of(LossType.CLASSIFICATION) == "binary"
    assert task_of(LossType.CLASSIFICATION, 3) == "multiclass"
    assert task_of(LossType.L2_LOSS) == "regression"
    with pytest.raises(ConfigError, match=r"num_class must be 1. Received: num_class 2"):
        task_of(LossType.L2_LOSS, 2)


def test_unknown_loss_names_the_known_ones():
    known = "CLASSIFICATION, CROSS_ENTROPY_LOSS, L2_LOSS, SIGMOID_L2_LOSS"
    with pytest.raises(ConfigError, match=f"must be one of: {known}. Received: CIRCLE_LOSS") as caught:
        one(LossType.CIRCLE_LOSS)
    assert caught.value.exit_code == 2


def test_several_losses_are_weighted_and_named():
    head = RankLosses(
        [
            LossConfig(loss_type=LossType.CLASSIFICATION, weight=2.0),
            LossConfig(loss_type=LossType.CROSS_ENTROPY_LOSS, weight=0.5, loss_name="calibration.a"),
        ]
    )
    found = head(torch.tensor([LOG3]), torch.tensor([1.0]))
    assert list(found) == ["cross_entropy_loss", "calibration.a"]
    assert found["cross_entropy_loss"].item() == pytest.approx(2 * math.log(4 / 3), rel=1e-5)
    assert found["calibration.a"].item() == pytest.approx(0.5 * math.log(4 / 3), rel=1e-5)
    assert not list(head.parameters())


def test_learned_weights_settle_at_the_log_of_the_loss():
    head = RankLosses(
        [
            LossConfig(loss_type=LossType.CLASSIFICATION, learn_loss_weight=True, loss_name="a.b"),
            LossConfig(loss_type=LossType.CROSS_ENTROPY_LOSS, weight=3.0),
        ],
        strategy="Uncertainty",
    )
    logits, labels = torch.tensor([-LOG3]), torch.tensor([1.0])  # a loss of log 4
    (u,) = head.parameters()
    assert head(logits, labels)["a.b"].item() == pytest.approx(math.log(4), rel=1e-5)
    assert head(logits, labels)["log_loss"].item() == pytest.approx(3 * math.log(4), rel=1e-5)
    optimizer = torch.optim.SGD([u], lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        head(logits, labels)["a.b"].backward()
        optimizer.step()
    # d/du (exp(-u) L + u / 2) = 0 at u = log(2 L)
    assert u.item() == pytest.approx(math.log(2 * math.log(4)), abs=1e-3)


def test_learned_weight_of_a_squared_loss_is_halved():
    head = RankLosses([LossConfig(loss_type=LossType.L2_LOSS, learn_loss_weight=True)], strategy="Uncertainty")
    assert value(head(torch.tensor([3.0]), torch.tensor([1.0]))) == pytest.approx(2.0)


def test_random_weights_are_shares_that_change_in_training_only():
    losses = [LossConfig(loss_type=LossType.L2_LOSS, weight=9), LossConfig(loss_type=LossType.L2_LOSS, loss_name="b")]
    head = RankLosses(losses, strategy="Random")
    torch.manual_seed(3)
    draws = [head(torch.tensor([1.0]), torch.tensor([0.0])) for _ in range(4)]
    assert all(sum(draw.values()).item() == pytest.approx(1) for draw in draws)
    assert len({draw["b"].item() for draw in draws}) == 4
    head.eval()
    assert head(torch.tensor([1.0]), torch.tensor([0.0]))["b"].item() == 0.5


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ([], "at least one loss. Received: none"),
        ([LossConfig(loss_type=LossType.L2_LOSS)] * 2, "must differ. Received more than once: l2_loss"),
        (
            [LossConfig(loss_type=LossType.L2_LOSS), LossConfig(loss_type=LossType.CLASSIFICATION)],
            r"same thing. Received: L2_LOSS \(regression\), CLASSIFICATION \(binary\)",
        ),
        (
            [LossConfig.model_validate({"loss_type": "L2_LOSS", "l2_loss": {"margin": 1}})],
            "L2_LOSS has no options. Received: l2_loss",
        ),
    ],
)
def test_losses_that_do_not_go_together(losses, message):
    with pytest.raises(ConfigError, match=message):
        RankLosses(losses)


@pytest.mark.parametrize(
    ("loss_type", "num_class", "labels", "message"),
    [
        (LossType.CLASSIFICATION, 1, [1, 5, 0], "finite numbers from 0 to 1. Received: 1 of 3 .* such as 5"),
        (LossType.CLASSIFICATION, 3, [2, 3, -100], "finite whole numbers from 0 to 2. Received: 2 of 3 .* such as 3"),
        (LossType.CLASSIFICATION, 3, [0.5, 1, 2], "finite whole numbers from 0 to 2. Received: 1 of 3 .* such as 0.5"),
        (LossType.L2_LOSS, 1, [1, math.nan, 2], "must be finite numbers. Received: 1 of 3 .* such as nan"),
        (LossType.SIGMOID_L2_LOSS, 1, [1, 1, 2], "from 0 to 1. Received: 1 of 3"),
    ],
)
def test_labels_out_of_range(loss_type, num_class, labels, message):
    head = one(loss_type, num_class=num_class)
    logits = torch.zeros(3) if num_class == 1 else torch.zeros(3, num_class)
    with pytest.raises(DataError, match=message):
        head(logits, torch.tensor(labels, dtype=torch.float32))


@pytest.mark.parametrize("loss_type", list(LOSSES))
def test_descending_the_gradient_moves_predictions_to_the_labels(loss_type):
    head = one(loss_type)
    logits = torch.zeros(3, requires_grad=True)
    labels = torch.tensor([0.0, 1.0, 0.25])
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        sum(head(logits, labels).values()).backward()
        optimizer.step()
    predictions = head.predict(logits.detach())
    assert predictions.get("y", predictions.get("probs")).tolist() == pytest.approx(labels.tolist(), abs=0.05)


def test_labels_with_one_column():
    head = one(LossType.L2_LOSS)
    assert value(head(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [0.0]]))) == 2.5


def scaled(inputs: LossInputs, /, *, factor: Annotated[float, Param("Factor.", gt=0)] = 2.0) -> Tensor:
    return weighted_mean(inputs.logits * factor + inputs.ids["session"], inputs.weights)


def test_one_entry_adds_a_loss_with_options(monkeypatch):
    entry = RankLoss(
        name="pairs",
        compute=scaled,
        task=lambda num_class: "binary",
        labels=lambda num_class: LabelRule(),
        predict=lambda logits, num_class: {"logits": logits},
        options="pair_wise_loss",
    )
    monkeypatch.setattr(catalogue, "LOSSES", MappingProxyType({**LOSSES, LossType.PAIR_WISE_LOSS: entry}))
    batch = (torch.tensor([1.0]), torch.tensor([1.0]), None, {"session": torch.tensor([10])})
    assert one(LossType.PAIR_WISE_LOSS)(*batch)["pairs"].item() == 12
    assert one(LossType.PAIR_WISE_LOSS, pair_wise_loss={"factor": 5})(*batch)["pairs"].item() == 15
    with pytest.raises(ConfigError, match=r"losses.pair_wise_loss: factor: .*greater than 0"):
        one(LossType.PAIR_WISE_LOSS, pair_wise_loss={"factor": -1})
    with pytest.raises(ConfigError, match=r"options of PAIR_WISE_LOSS are called `pair_wise_loss`. Received: jrc_loss"):
        one(LossType.PAIR_WISE_LOSS, jrc_loss={})
