"""Target attention inside a feature group (`sequence_features`)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from bones import Backbone, batch_of, bone, dense, fill, group, ids, jagged, node, problems, sequence
from torch import Tensor

from intarsia.core.batch import Batch
from intarsia.data.schema import FeatureSpec

ITEM, HIST = ids("item", dim=2), sequence("hist", dim=2)


def attention(**more: Any) -> dict[str, Any]:
    """A group message: the item and its attention over the history."""
    maps = {
        "key": more.pop("key", ["item"]),
        "hist_seq": more.pop("hist", ["hist"]),
        "aux_hist_seq": more.pop("aux", []),
    }
    names = more.pop("names", ["item"])
    return {"feature_names": names, "sequence_features": [{"group_name": "att", "seq_att_map": [maps], **more}]}


def attending(*specs: FeatureSpec, **more: Any) -> Backbone:
    return bone([node("x", group("g"))], {"g": attention(**more)}, *(specs or (ITEM, HIST)))


def score_by_product(backbone: Backbone) -> None:
    """Makes the attention's MLP compute the sum of q * k (up to the ReLU, which positive tables never reach)."""
    (layer,) = backbone.readers["g"].attentions[0].din.attention_dnn.layers
    dim = layer.linear.in_features // 4
    with torch.no_grad():
        layer.linear.weight.zero_()
        layer.linear.weight[0, 3 * dim :] = 1.0
        layer.linear.bias.zero_()


PRODUCT = {"seq_dnn": {"hidden_units": [1]}}
ROWS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [1.0, 3.0]] + [[0.0, 0.0]] * 5)
ONE = batch_of({"item": dense([3]), "hist": jagged([[1, 2]])})


def prepared(*specs: FeatureSpec, **more: Any) -> Backbone:
    backbone = attending(*specs, **{**PRODUCT, **more})
    score_by_product(backbone)
    for name in backbone.embedder.collection.table_names:
        rows, dim = backbone.embedder.collection.weight(name).shape
        fill(backbone, name, ROWS[:rows, :dim] if dim <= 2 else torch.cat([ROWS, ROWS], 1)[:rows, :dim])
    return backbone


def softmax(*scores: float) -> list[float]:
    return torch.tensor(scores).softmax(0).tolist()


def test_the_output_is_the_group_then_the_pooled_history_then_the_key() -> None:
    """q = (2, 1), keys (1, 0) and (0, 1): scores 2 and 1."""
    one, two = softmax(2.0, 1.0)
    found = prepared()(ONE)[0]
    assert torch.allclose(found, torch.tensor([[2.0, 1.0, one, two, 2.0, 1.0]]))


def test_the_key_can_be_left_out() -> None:
    one, two = softmax(2.0, 1.0)
    backbone = prepared(need_key_feature=False)
    assert backbone.out_features == 4
    assert torch.allclose(backbone(ONE)[0], torch.tensor([[2.0, 1.0, one, two]]))


def test_a_row_without_history_pools_to_zeros() -> None:
    batch = batch_of({"item": dense([3, -1]), "hist": jagged([[], [1]])})
    found = prepared(need_key_feature=False)(batch)[0]
    assert found.tolist() == [[2.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]


def test_auxiliary_sequences_are_pooled_by_the_same_scores() -> None:
    aux = sequence("aux", dim=1)
    backbone = prepared(ITEM, HIST, aux, aux=["aux"], need_key_feature=False)
    fill(backbone, "g/aux", [[float(i)] for i in range(10)])
    batch = batch_of({"item": dense([3]), "hist": jagged([[1, 2]]), "aux": jagged([[5, 7]])})
    one, two = softmax(2.0, 1.0)
    assert torch.allclose(backbone(batch)[0], torch.tensor([[2.0, 1.0, one, two, 5 * one + 7 * two]]))
    assert backbone.out_features == 5


@pytest.mark.parametrize("aux", [[[5]], [[5, 7, 9]]])
def test_auxiliary_sequences_of_another_length_are_cut_or_padded(aux: list[list[int]]) -> None:
    backbone = prepared(ITEM, HIST, sequence("aux", dim=1), aux=["aux"], need_key_feature=False)
    fill(backbone, "g/aux", [[float(i)] for i in range(10)])
    batch = batch_of({"item": dense([3]), "hist": jagged([[1, 2]]), "aux": jagged(aux)})
    one, two = softmax(2.0, 1.0)
    pooled = 5 * one + (7 * two if len(aux[0]) > 1 else 0)
    assert backbone(batch)[0][0, -1].item() == pytest.approx(pooled)


def test_several_keys_and_histories_stand_side_by_side() -> None:
    specs = (ids("item", dim=1), ids("cate", dim=1), sequence("h1", dim=1), sequence("h2", dim=1))
    maps = {"key": ["item", "cate"], "hist": ["h1", "h2"], "names": ["item", "cate"]}
    backbone = attending(*specs, **maps, **PRODUCT)
    score_by_product(backbone)
    for name in ("g/item", "g/cate", "g/h1", "g/h2"):
        fill(backbone, name, [[float(i)] for i in range(10)])
    batch = batch_of({"item": dense([1]), "cate": dense([2]), "h1": jagged([[1, 3]]), "h2": jagged([[1, 2]])})
    one, two = softmax(1.0 * 1 + 2 * 1, 1.0 * 3 + 2 * 2)
    expected = [1.0, 2.0, one + 3 * two, one + 2 * two, 1.0, 2.0]
    assert torch.allclose(backbone(batch)[0], torch.tensor([expected]))


def test_entries_of_one_attention_are_joined() -> None:
    message = attention(names=["item", "cate"])
    maps = [{"key": ["item"], "hist_seq": ["h1"]}, {"key": ["cate"], "hist_seq": ["h2"]}]
    message["sequence_features"][0]["seq_att_map"] = maps
    specs = (ids("item"), ids("cate"), sequence("h1"), sequence("h2"))
    backbone = bone([node("x", group("g"))], {"g": message}, *specs)
    (only,) = backbone.readers["g"].attentions
    assert [spec.name for spec in only.attention.keys] == ["item", "cate"]
    assert only.din.dim == 8


def test_several_attentions_follow_each_other() -> None:
    message = attention()
    message["sequence_features"].append(
        {"group_name": "second", "seq_att_map": [{"key": ["item"], "hist_seq": ["h2"]}]}
    )
    backbone = bone([node("x", group("g"))], {"g": message}, ITEM, HIST, sequence("h2", dim=2))
    assert backbone.out_features == 2 + 2 * (2 + 2)


def test_keys_outside_the_group_are_looked_up_only_when_that_is_allowed() -> None:
    (found,) = problems([node("x", group("g"))], {"g": attention(names=["user"])}, ids("user"), ITEM, HIST)
    assert str(found) == (
        "model_config.feature_groups[0]: keys ['item'] of the attention `att` are not in the group. Add them, or set "
        "allow_key_search"
    )
    backbone = attending(ids("user", dim=3), ITEM, HIST, names=["user"], allow_key_search=True)
    assert backbone.out_features == 3 + 2 + 2
    batch = batch_of({"user": dense([1]), "item": dense([3]), "hist": jagged([[1, 2]])})
    assert backbone(batch)[0].shape == (1, 7)


# Keys and histories of different widths


def test_unequal_widths_are_refused() -> None:
    (found,) = problems([node("x", group("g"))], {"g": attention()}, ids("item", dim=1), HIST)
    assert str(found) == (
        "model_config.feature_groups[0]: feature group `g`: the attention `att` needs keys and histories that are "
        "equally "
        "wide. Received: keys 1, histories 2. Set allow_key_transform, or make the widths equal"
    )


def test_a_narrower_key_is_padded_with_zeros() -> None:
    """Key (1,) counts as (1, 0), so only the first number of a step is compared; the history keeps its width."""
    backbone = prepared(ids("item", dim=1), HIST, allow_key_transform=True)
    fill(backbone, "g/item", [[float(i)] for i in range(10)])
    batch = batch_of({"item": dense([1]), "hist": jagged([[3, 4]])})  # (2, 1), (1, 3)
    one, two = softmax(2.0, 1.0)
    found = backbone(batch)[0]
    assert torch.allclose(found, torch.tensor([[1.0, 2 * one + two, one + 3 * two, 1.0]]))
    assert backbone.readers["g"].attentions[0].transform is None


@pytest.mark.parametrize("width", [1, 3])
def test_transform_dnn_projects_the_key_whichever_is_wider(width: int) -> None:
    specs = (ids("item", dim=width), HIST)
    backbone = prepared(*specs, allow_key_transform=True, transform_dnn=True)
    target = backbone.readers["g"].attentions[0]
    with torch.no_grad():
        target.transform.weight.zero_()
        target.transform.bias.copy_(torch.tensor([2.0, 1.0]))
    one, two = softmax(2.0, 1.0)
    found = backbone(ONE)[0]
    assert found.shape == (1, 2 * width + 2)
    assert torch.allclose(found[:, width : width + 2], torch.tensor([[one, two]]))


def test_a_wider_key_cannot_be_padded() -> None:
    message = attention(allow_key_transform=True)
    (found,) = problems([node("x", group("g"))], {"g": message}, ids("item", dim=3), HIST)
    assert str(found) == (
        "model_config.feature_groups[0]: feature group `g`: the attention `att` can pad keys that are narrower than "
        "the "
        "histories. Received: keys 3, histories 2. Set transform_dnn, which projects the keys, or make the widths equal"
    )


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (attention(hist=[]), "needs at least one key and one hist_seq"),
        (attention(key=[]), "needs at least one key and one hist_seq"),
        (
            attention(hist=["item"]),
            "reads histories, so hist_seq and aux_hist_seq name SequenceFeatures. Received: item",
        ),
        (
            attention(key=["hist"], names=["hist"]),
            "compares with one target item, so no key is a SequenceFeature. Received: hist",
        ),
        ({**attention(), "wide_deep": "WIDE"}, "cannot be part of a WIDE group, whose sequences are summed up"),
        (
            attention(seq_dnn={"hidden_units": [8, 2]}),
            None,
        ),
        (attention(seq_dnn={"hidden_unit": [8, 1]}), None),
    ],
)
def test_other_refusals(message: dict[str, Any], told: str | None) -> None:
    (found,) = problems([node("x", group("g"))], {"g": message}, ITEM, HIST)
    assert found.path == "model_config.feature_groups[0]"
    if told is not None:
        assert found.message == f"feature group `g`: the attention `att` {told}"
    elif message["sequence_features"][0]["seq_dnn"].get("hidden_units"):
        assert "`DIN` needs an attention_dnn whose last layer gives one score." in found.message
    else:
        assert "attention_dnn.hidden_unit: no such option. Did you mean `hidden_units`?" in found.message


# What a model relies on


def random_batch(rows: int, extra: int = 0) -> Batch:
    torch.manual_seed(rows)
    lengths = torch.randint(0, 6, (rows,)).tolist()
    hist = [torch.randint(0, 10, (n,)).tolist() for n in lengths]
    return batch_of({"item": dense(torch.randint(0, 10, (rows,)).tolist()), "hist": jagged([*hist, [1] * extra])})


def test_padding_of_other_rows_changes_nothing() -> None:
    backbone = attending()
    batch = random_batch(6)
    items = batch.features["item"].values
    longer = batch_of({"item": dense([*items.tolist(), 1]), "hist": random_batch(6, extra=40).features["hist"]})
    short = batch_of({"item": dense([*items.tolist(), 1]), "hist": batch.features["hist"]})
    one, two = backbone(longer)[0], backbone(short)[0]
    assert torch.allclose(one[:6], two[:6], atol=1e-6)


def test_gradients_reach_key_history_and_scores() -> None:
    backbone = attending().train()
    value: Tensor = backbone(batch_of({"item": dense([1, 2]), "hist": jagged([[3, 4, 5], [6]])}))[0]
    value.square().sum().backward()
    for name, parameter in backbone.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, name
    (weight,) = backbone.embedder.collection.parameters()
    assert (weight.grad.to_dense().abs().sum(dim=1) > 0).sum() == 2 + 4  # two items and four steps


def test_the_default_score_has_layers_of_128_64_32_1() -> None:
    widths = [layer.linear.out_features for layer in attending().readers["g"].attentions[0].din.attention_dnn.layers]
    assert widths == [128, 64, 32, 1]
