"""Shapes in letters, the layout of boxes, and pictures."""

import random
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from intarsia.backbone.build import Backbone
from intarsia.backbone.draw import ARGUMENT, OUT, Box, Picture, draw, picture_of
from intarsia.backbone.infos import BlockInfo, block_infos, shape_text
from intarsia.backbone.layout import GAP_X, Layout, _apart, lay_out
from intarsia.config.schema import Backbone as BackboneConfig
from intarsia.config.schema import FeatureGroup
from intarsia.data.schema import FeatureSpec, Schema

SCHEMA = Schema(
    {
        "a": FeatureSpec("a", "id", num_ids=10, embedding_dim=4),
        "b": FeatureSpec("b", "id", num_ids=10, embedding_dim=4),
        "n": FeatureSpec("n", "dense"),
        "s": FeatureSpec("s", "id", num_ids=10, embedding_dim=4, sequence=True),
    },
    {"y": 1},
)
GROUPS = [
    FeatureGroup(group_name="item", feature_names=["a", "n"]),
    FeatureGroup(group_name="user", feature_names=["b"]),
    FeatureGroup(group_name="past", feature_names=["s", "a"]),
]
SEQ = {
    "name": "past",
    "inputs": [{"feature_group_name": "past"}],
    "input_layer": {"output_seq_and_normal_feature": True},
}


def backbone(**config: object) -> Backbone:
    return Backbone(config=BackboneConfig.model_validate(config), feature_groups=GROUPS, schema=SCHEMA)


def infos(model: Backbone) -> dict[str, BlockInfo]:
    return {info.name: info for info in block_infos(model, SCHEMA)}


def layer(name: str, *inputs: object, **layer: object) -> dict[str, object]:
    return {"name": name, "inputs": [{"block_name": i} if isinstance(i, str) else i for i in inputs], **layer}


def fn(text: str) -> dict[str, object]:
    return {"lambda": {"expression": f"lambda x: {text}"}}


# Shapes in letters


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("x[0]", "(B, L, 4)"),
        ("x[1]", "(B,)"),
        ("x[2]", "(B, 4)"),
        ("tf.concat([x[0], x[0]], axis=1)", "(B, 2*L, 4)"),
        ("tf.concat([x[0], tf.expand_dims(x[2], 1)], axis=1)", "(B, L+1, 4)"),
        ("tf.concat([x[2], x[2]], axis=0)", "(2*B, 4)"),
        ("tf.reshape(x[0], [-1, 4])", "(B*L, 4)"),
        ("tf.matmul(x[2], tf.transpose(x[2]))", "(B, B)"),
        ("tf.reduce_sum(x[2])", "scalar"),
        ("[x[2], x[2], x[0]]", "[2 x (B, 4), (B, L, 4)]"),
    ],
)
def test_sizes_follow_the_batch_and_the_length(expression: str, text: str) -> None:
    model = backbone(blocks=[SEQ, layer("f", "past", **fn(expression))], output_blocks=["f"])
    assert infos(model)["f"].output_shape == text


def test_one_text_for_nested_shapes() -> None:
    size = torch.Size
    assert shape_text([None, None, None]) == "none"
    assert shape_text([size([]), size([]), size([])]) == "scalar"
    shapes = [
        ((size([2, 5]), None), [size([2, 3])]),
        ((size([3, 5]), None), [size([3, 3])]),
        ((size([2, 5]), None), [size([2, 2])]),
    ]
    assert shape_text(shapes) == "(((B, 5), none), [(B, L)])"
    # A size that grows with both in another way has no letter.
    assert shape_text([size([7]), size([11]), size([9])]) == "(?,)"


def test_measuring_changes_nothing() -> None:
    model = backbone(
        blocks=[
            SEQ,
            layer("f", "past", **fn("x[2]")),
            layer("g", "f", layer={"class_name": "Dense", "st_params": {"units": 3}}),
        ]
    )
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    block_infos(model, SCHEMA)
    assert torch.equal(torch.rand(3), expected)
    assert model.training
    assert all(module.training for module in model.modules())
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_blocks_are_told_with_inputs_and_parameters() -> None:
    dense = {"layer": {"class_name": "Dense", "st_params": {"units": 3}}}
    model = backbone(
        blocks=[
            layer("joined", {"feature_group_name": "user"}, {"feature_group_name": "item"}),
            layer("twice", {"package_name": "tower", "package_input": "joined"}, **dense),
        ],
        packages=[{"name": "tower", "blocks": [layer("inner", {"use_package_input": True}, **dense)]}],
        top_mlp={"hidden_units": [5]},
    )
    found = infos(model)
    assert list(found) == ["tower.inner", "user", "item", "joined", "twice", "top_mlp"]
    assert found["tower.inner"].package == "tower"
    assert found["tower.inner"].inputs == ("package input",)
    assert found["tower.inner"].parameters == (4 + 5) * 3 + 3
    assert found["user"].operation == "input layer"
    assert found["user"].inputs == ("group user",)
    assert found["joined"].operation == "concat"
    assert found["twice"].inputs == ("tower(joined)",)
    assert found["twice"].input_shape == "(B, 3)"
    assert found["top_mlp"].inputs == ("twice",)
    assert found["top_mlp"].output_shape == "(B, 5)"


# Layout


def overlap(layout: Layout, sizes: dict[str, tuple[float, float]]) -> list[tuple[str, str]]:
    def apart(one: str, other: str) -> bool:
        (x, y), (w, h) = layout.boxes[one], sizes[one]
        (u, v), (r, s) = layout.boxes[other], sizes[other]
        return x + w <= u + 1e-6 or u + r <= x + 1e-6 or y + h <= v + 1e-6 or v + s <= y + 1e-6

    return [pair for pair in combinations(sizes, 2) if not apart(*pair)]


def random_graph(seed: int) -> tuple[dict[str, tuple[float, float]], list[tuple[str, str]]]:
    rng = random.Random(seed)
    names = [f"n{k}" for k in range(rng.randrange(1, 25))]
    sizes = {name: (rng.uniform(20, 160), rng.uniform(15, 120)) for name in names}
    edges = {(a, b) for a, b in combinations(names, 2) if rng.random() < 0.12}
    return sizes, sorted(edges)


@pytest.mark.parametrize("seed", range(40))
def test_boxes_do_not_overlap_and_edges_run_down_past_them(seed: int) -> None:
    sizes, edges = random_graph(seed)
    layout = lay_out(sizes, edges)
    assert overlap(layout, sizes) == []
    for source, target in edges:
        assert layout.boxes[source][1] + sizes[source][1] < layout.boxes[target][1]
    for lanes in layout.lanes.values():
        for (x, top), (_, bottom) in zip(lanes[::2], lanes[1::2], strict=True):
            for name, (left, above) in layout.boxes.items():
                inside = left < x < left + sizes[name][0] and above < bottom and top < above + sizes[name][1]
                assert not inside, (name, x)
    for name, (x, y) in layout.boxes.items():
        assert x >= -1e-6
        assert x + sizes[name][0] <= layout.width + 1e-6
        assert y + sizes[name][1] <= layout.height + 1e-6


def test_a_chain_is_straight() -> None:
    sizes = {"a": (30.0, 10.0), "b": (90.0, 20.0), "c": (50.0, 10.0)}
    layout = lay_out(sizes, [("a", "b"), ("b", "c")])
    middles = [layout.boxes[name][0] + sizes[name][0] / 2 for name in sizes]
    assert middles == pytest.approx([middles[0]] * 3)


def test_a_fork_is_centred_and_its_order_avoids_crossings() -> None:
    sizes = dict.fromkeys(("top", "x", "y", "left", "right"), (40.0, 10.0))
    edges = [("top", "x"), ("top", "y"), ("x", "right"), ("y", "left")]
    layout = lay_out(sizes, edges)
    at = {name: layout.boxes[name][0] for name in sizes}
    assert (at["x"] < at["y"]) == (at["right"] < at["left"])
    assert at["top"] == pytest.approx((at["x"] + at["y"]) / 2)


def test_sources_stand_just_above_their_reader() -> None:
    sizes = dict.fromkeys(("a", "b", "late", "c", "d"), (40.0, 10.0))
    layout = lay_out(sizes, [("a", "b"), ("b", "c"), ("c", "d"), ("late", "d")])
    assert layout.boxes["late"][1] == layout.boxes["c"][1]
    pinned = lay_out(sizes, [("a", "b"), ("b", "c"), ("c", "d"), ("late", "d")], first=["late"])
    assert pinned.boxes["late"][1] == pinned.boxes["a"][1]


def test_nearest_positions_in_order() -> None:
    # Both want to be at 5 and must be 4 apart: 3 and 7. The heavier one moves less.
    assert _apart(np.array([5.0, 5.0]), np.array([1.0, 1.0]), np.array([0.0, 4.0])).tolist() == [3.0, 7.0]
    assert _apart(np.array([5.0, 5.0]), np.array([3.0, 1.0]), np.array([0.0, 4.0])).tolist() == [4.0, 8.0]
    assert _apart(np.array([0.0, 9.0]), np.array([1.0, 1.0]), np.array([0.0, 4.0])).tolist() == [0.0, 9.0]


def test_nothing_to_place() -> None:
    assert lay_out({}, []).boxes == {}
    one = lay_out({"a": (30.0, 10.0)}, [])
    assert (one.width, one.height) == (30.0, 10.0)
    two = lay_out({"a": (30.0, 10.0), "b": (30.0, 10.0)}, [])
    assert two.width == pytest.approx(60 + GAP_X)


# Pictures


def shared_tower() -> Backbone:
    dense = {"layer": {"class_name": "Dense", "st_params": {"units": 3}}}

    def call(argument: str) -> dict[str, str]:
        return {"package_name": "tower", "package_input": argument}

    return backbone(
        blocks=[
            layer("one", {"feature_group_name": "user"}, **dense),
            layer("two", {"feature_group_name": "item"}, **dense),
            SEQ,
            layer(
                "both",
                call("one"),
                call("one"),
                call("two"),
                merge_inputs_into_list=True,
                layer={"class_name": "Concatenate"},
            ),
        ],
        packages=[
            {
                "name": "tower",
                "blocks": [
                    layer("inner", {"use_package_input": True}, **dense),
                    layer("beside", {"block_name": "past", "input_slice": "[2]"}, **dense),
                ],
            }
        ],
        concat_blocks=["both"],
    )


def test_each_way_of_calling_a_package_has_a_box() -> None:
    model = shared_tower()
    picture = picture_of(model, infos(model), "predicts y")
    packages = {name: box for name, box in picture.boxes.items() if box.inside is not None}
    assert list(packages) == ["call tower(one)", "call tower(two)"]
    assert all(box.lines == ["shared weights"] for box in packages.values())
    assert picture.edges["one", "call tower(one)"] == [""]
    # Called twice with the same argument: one box, and an edge that counts two.
    assert len(picture.edges["call tower(one)", "both"]) == 2
    assert ("past", "call tower(one)") in picture.edges
    assert ("both", "@prediction") in picture.edges
    inside = packages["call tower(two)"].inside
    assert inside is not None
    assert set(inside.edges) == {(ARGUMENT, "inner"), ("@main:past", "beside"), ("inner", OUT), ("beside", OUT)}
    assert inside.edges["@main:past", "beside"] == ["[2]"]


def boxes(picture: Picture, x: float = 0, y: float = 0) -> list[tuple[Box, float, float, int]]:
    """All boxes with their absolute places, and the depth at which they lie."""
    out = []
    for name, box in picture.boxes.items():
        left, top = picture.layout.boxes[name]
        out.append((box, x + left, y + top, 0))
        if box.inside is not None:
            shift = (box.width - box.inside.layout.width) / 2
            out += [(b, p, q, d + 1) for b, p, q, d in boxes(box.inside, x + left + shift, y + top + 19.5)]
    return out


def test_text_fits_its_box_and_boxes_keep_apart(tmp_path: Path) -> None:
    from intarsia.backbone.draw import TEXT, TITLE, _text_width

    model = shared_tower()
    picture = draw(model, list(infos(model).values()), tmp_path / "graph.png", title="a title", prediction="predicts y")
    placed = boxes(picture)
    for box, _, _, _ in placed:
        if box.inside is None:
            assert box.width >= max(
                _text_width(box.title, TITLE, bold=True), *(_text_width(t, TEXT) for t in [*box.lines, ""])
            )
        else:
            assert box.width >= box.inside.layout.width
    for (one, x, y, depth), (other, u, v, other_depth) in combinations(placed, 2):
        if depth == other_depth:
            apart = x + one.width <= u or u + other.width <= x or y + one.height <= v or v + other.height <= y
            assert apart, (one.title, other.title)


def test_a_picture_is_the_same_each_time(tmp_path: Path) -> None:
    model = shared_tower()
    for name in ("a.svg", "b.svg"):
        draw(model, list(infos(model).values()), tmp_path / name, title="t", prediction="p")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_picture_has_ink_within_its_borders(tmp_path: Path) -> None:
    from matplotlib.image import imread

    model = shared_tower()
    draw(model, list(infos(model).values()), tmp_path / "a.png", title="t", prediction="p")
    dark = imread(tmp_path / "a.png")[:, :, :3].min(axis=2) < 0.9
    assert 0.005 < dark.mean() < 0.5
    for edge in (dark[:3], dark[-3:], dark[:, :3], dark[:, -3:]):
        assert not edge.any()
