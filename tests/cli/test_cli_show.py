"""show: text, JSON, pictures."""

import sys
from pathlib import Path

import pytest

GRAPH = """
train_input_path: nowhere.csv
data_config: {with_header: true, label_fields: [y]}
feature_config:
  features:
  - {input_names: [a], hash_bucket_size: 1000000000, embedding_dim: 8}
  - {input_names: [b], num_buckets: 50, embedding_dim: 8, embedding_name: shared}
  - {input_names: [s], feature_type: SequenceFeature, num_buckets: 50, embedding_dim: 8, embedding_name: shared}
  - {input_names: [idle], hash_bucket_size: 10, embedding_dim: 8}
model_config:
  model_class: RankModel
  feature_groups:
  - {group_name: item, feature_names: [a, b]}
  - {group_name: past, feature_names: [s]}
  - {group_name: unread, feature_names: [a]}
  backbone:
    blocks:
    - {name: past, inputs: [{feature_group_name: past}], input_layer: {output_seq_and_normal_feature: true}}
    - {name: joined, inputs: [{package_name: tower, package_input: past}, {feature_group_name: item}]}
    packages:
    - name: tower
      blocks:
      - {name: pool, inputs: [{use_package_input: true}], lambda: {expression: 'lambda x: tf.reduce_sum(x[0], axis=1)'}}
      - {name: dense, inputs: [{block_name: pool}], layer: {class_name: MLP, mlp: {hidden_units: [4]}}}
    - name: idle
      blocks: [{name: same, inputs: [{use_package_input: true}]}]
    top_mlp: {hidden_units: [6]}
"""


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    (tmp_path / "graph.yaml").write_text(GRAPH)
    return tmp_path / "graph.yaml"


def test_the_graph_as_json(call, graph: Path) -> None:
    said = call("show", graph, "--json")
    assert said.code == 0, said.err
    shown = said.json
    blocks = {block["name"]: block for block in shown["blocks"]}
    assert list(blocks) == ["tower.pool", "tower.dense", "past", "item", "joined", "top_mlp", "head"]
    assert blocks["past"]["output_shape"] == "((B, L, 8), (B,), none)"
    assert blocks["tower.pool"]["input_shape"] == "((B, L, 8), (B,), none)"
    assert blocks["tower.dense"]["package"] == "tower"
    assert blocks["joined"]["inputs"] == ["tower(past)", "item"]
    assert blocks["joined"]["output_shape"] == "(B, 20)"
    # A dense layer without bias behind batch norm: 20 x 6 weights and 2 x 6 of the norm.
    assert blocks["top_mlp"]["parameters"] == 20 * 6 + 2 * 6
    assert blocks["head"]["parameters"] == 6 + 1


def test_tables_are_counted_and_never_made(call, graph: Path) -> None:
    shown = call("show", graph, "--json").json
    tables = {table["name"]: table for table in shown["tables"]}
    assert tables["item/a"] == {"name": "item/a", "rows": 1_000_000_000, "dim": 8, "features": ["a"]}
    assert tables["shared/shared"]["features"] == ["b", "s"]
    assert shown["table_parameters"] == 8 * (1_000_000_000 + 50)
    dense = sum(block["parameters"] for block in shown["blocks"])
    assert shown["dense_parameters"] == dense
    assert shown["bytes"] == 4 * (shown["table_parameters"] + dense)


def test_what_nothing_reads_is_told(call, graph: Path) -> None:
    notes = call("show", graph, "--json").json["notes"]
    assert "feature group `unread` is read by no block" in notes
    assert "features that no block reads: idle" in notes
    assert "package `idle` is never called" in notes


def test_the_graph_as_text(call, graph: Path) -> None:
    said = call("show", graph)
    assert said.code == 0
    assert said.out.index("package tower") < said.out.index("RankModel") < said.out.index("tables")
    assert "1,000,000,000" in said.out
    assert "32.0 GB of weights" in said.out
    assert "L: length of a history" in said.out


def test_values_can_be_set(call, graph: Path) -> None:
    shown = call("show", graph, "model_config.backbone.top_mlp.hidden_units=[5, 3]", "--json").json
    assert next(b for b in shown["blocks"] if b["name"] == "top_mlp")["output_shape"] == "(B, 3)"


def test_learned_vocabularies_are_read_from_the_data(call, folder: Path) -> None:
    shown = call("show", folder / "pipeline.yaml", "--json").json
    tables = {table["name"]: table["rows"] for table in shown["tables"]}
    assert tables["deep/item"] == 13
    assert tables["deep/user"] == 40
    assert tables["deep/price"] == 4


def test_missing_data_are_told_with_what_needs_them(call, folder: Path) -> None:
    said = call("show", folder / "pipeline.yaml", "train_input_path=gone.csv")
    assert said.code == 3
    assert "learned from the training data (`vocab: auto` of item, tags, recent)" in said.err
    assert "gone.csv" in said.err


def test_a_run_needs_no_data(call, trained: Path) -> None:
    shown = call("show", trained, "train_input_path=gone.csv", "--json")
    assert shown.code == 0, shown.err
    assert {table["name"]: table["rows"] for table in shown.json["tables"]}["deep/item"] == 13


def test_a_graph_that_does_not_fit_names_the_line(call, graph: Path) -> None:
    graph.write_text(GRAPH.replace("class_name: MLP", "class_name: DotInteraction"))
    said = call("show", graph)
    assert said.code == 2
    assert "graph.yaml:24" in said.err
    assert "tower.dense" in said.err


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_pictures(call, graph: Path, tmp_path: Path, ending: str) -> None:
    said = call("show", graph, "--image", tmp_path / "new" / f"graph.{ending}")
    assert said.code == 0, said.err
    magic = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[ending]
    assert (tmp_path / "new" / f"graph.{ending}").read_bytes().startswith(magic)
    assert f"drawn: {tmp_path}" in said.out


def test_a_picture_of_another_ending_is_refused(call, graph: Path) -> None:
    said = call("show", graph, "--image", "graph.bmp")
    assert said.code == 2
    assert "a picture ends in .svg, .png, .pdf. Received: graph.bmp" in said.err


def test_without_matplotlib_the_extra_is_named(call, graph: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = call("show", graph, "--image", tmp_path / "graph.svg")
    assert said.code == 6
    assert "pip install 'intarsia[plot]'" in said.err
    assert not (tmp_path / "graph.svg").exists()
