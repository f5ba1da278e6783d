# ruff: noqa: E501 (tables of messages)
"""Names that a file gives and uses."""

from __future__ import annotations

import pytest
from config_samples import CL4SREC, FULL_PBTEXT, FULL_YAML, WIDE_AND_DEEP, errors

BASE = """data_config:
  input_fields: [{input_name: user_id}, {input_name: item_id}, {input_name: clk}]
  label_fields: [clk]
feature_config:
  features:
  - {input_names: user_id}
  - {feature_name: item, input_names: item_id}
model_config:
  model_class: x
  feature_groups:
  - {group_name: user, feature_names: [user_id]}
  - {group_name: item, feature_names: [item]}
  backbone:
    blocks:
    - {name: main, inputs: [{feature_group_name: user}, {block_name: side}]}
    - {name: side, inputs: [{package_name: pack, package_input: item_block}]}
    - {name: item_block, inputs: {feature_group_name: item}}
    packages:
    - name: pack
      blocks: [{name: in, inputs: {use_package_input: true}}, {name: out, inputs: [{block_name: in}, {block_name: main}]}]
      output_blocks: [out]
    concat_blocks: [main]
"""


def test_a_right_file_has_no_errors() -> None:
    assert errors(BASE) == []
    for text in (CL4SREC, WIDE_AND_DEEP, FULL_PBTEXT):
        assert errors(text, "pbtext") == []
    assert errors(FULL_YAML) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "label_fields: [clk]",
            "label_fields: [click]",
            "3: data_config.label_fields[0]: `click` is no input_name of data_config.input_fields. Did you mean `clk`?",
        ),
        (
            "label_fields: [clk]",
            "label_fields: [clk]\n  sample_weight: w",
            "4: data_config.sample_weight: `w` is no "
            "input_name of data_config.input_fields. The input fields: user_id, item_id, clk.",
        ),
        (
            "label_fields: [clk]",
            "label_fields: [clk]\n  feature_fields: [userid]",
            "4: data_config.feature_fields[0]: "
            "`userid` is no input_name of data_config.input_fields. Did you mean `user_id`?",
        ),
        (
            "{input_name: clk}",
            "{input_name: clk}, {input_name: clk}",
            "2: data_config.input_fields[3].input_name: the input "
            "field `clk` is given twice (first f.yaml:2); names are unique",
        ),
        (
            "- {input_names: user_id}",
            "- {input_names: user_id}\n  - {input_names: user}",
            "7: feature_config.features[1]."
            "input_names[0]: `user` is no input_name of data_config.input_fields. Did you mean `user_id`?",
        ),
        (
            "- {input_names: user_id}",
            "- {input_names: user_id}\n  - {input_names: clk, feature_name: item}",
            "8: "
            "feature_config.features[2].feature_name: the feature `item` is given twice (first f.yaml:7); names are unique",
        ),
        (
            "[user_id]}",
            "[user_id, itm]}",
            "11: model_config.feature_groups[0].feature_names[1]: `itm` is no feature. Did you mean `item`?",
        ),
        (
            "[user_id]}",
            "[user_id], sequence_features: {seq_att_map: {key: item, hist_seq: hist}}}",
            "11: model_config."
            "feature_groups[0].sequence_features[0].seq_att_map[0].hist_seq[0]: `hist` is no feature. The features: user_id, "
            "item.",
        ),
        (
            "  backbone:\n",
            "  - group_name: user\n  backbone:\n",
            "13: model_config.feature_groups[2].group_name: the feature group `user` "
            "is given twice (first f.yaml:11); names are unique",
        ),
        (
            "    packages:\n",
            "    - name: main\n    packages:\n",
            "18: model_config.backbone.blocks[3].name: the block `main` is given twice (first "
            "f.yaml:15); names are unique",
        ),
        (
            "- name: pack\n",
            "- name: pack\n    - name: pack\n",
            "20: model_config.backbone.packages[1].name: the package "
            "`pack` is given twice (first f.yaml:19); names are unique",
        ),
        (
            "    packages:\n",
            "    - name: item\n    packages:\n",
            "18: model_config.backbone.blocks[3].name: `item` is the name of a feature "
            "group (f.yaml:12); only a block with an input_layer may share it",
        ),
        (
            "feature_group_name: user",
            "feature_group_name: usr",
            "15: model_config.backbone.blocks[0].inputs[0]."
            "feature_group_name: `usr` is no feature group. Did you mean `user`?",
        ),
        (
            "block_name: side",
            "block_name: sid",
            "15: model_config.backbone.blocks[0].inputs[1].block_name: `sid` is no block. Did you mean `side`?",
        ),
        (
            "package_name: pack",
            "package_name: zzz",
            "16: model_config.backbone.blocks[1].inputs[0].package_name: `zzz` is no package. The packages: pack.",
        ),
        (
            "package_input: item_block",
            "package_input: item_blok",
            "16: model_config.backbone.blocks[1].inputs[0]."
            "package_input: `item_blok` is neither a block nor a package nor a feature group. Did you mean `item_block`?",
        ),
        (
            "concat_blocks: [main]",
            "concat_blocks: [mainn]",
            "22: model_config.backbone.concat_blocks[0]: `mainn` is no block here. Did you mean `main`?",
        ),
        (
            "output_blocks: [out]",
            "output_blocks: [main]",
            "21: model_config.backbone.packages[0].output_blocks[0]: `main` is no block here. Did you mean `in`?",
        ),
        (
            "{block_name: in}",
            "{block_name: inn}",
            "20: model_config.backbone.packages[0].blocks[1].inputs[0].block_name: "
            "`inn` is no block. Did you mean `in`?",
        ),
        (
            "model_class: x",
            "model_class: x\n  label_name: clkk",
            "10: model_config.label_name: `clkk` is no label of data_config.label_fields. Did you mean `clk`?",
        ),
        (
            "model_class: x",
            "model_class: x\n  model_params: {task_towers: [{tower_name: a, label_name: buy}]}",
            "10: "
            "model_config.model_params.task_towers[0].label_name: `buy` is no label of data_config.label_fields. The labels: "
            "clk.",
        ),
        (
            "model_class: x",
            "model_class: x\n  model_params: {task_towers: [{tower_name: a, relation_tower_names: [b]}, "
            "{tower_name: b}]}",
            "10: model_config.model_params.task_towers[0].relation_tower_names[0]: `b` is no task tower "
            "before this one. There are no towers before this one.",
        ),
        (
            "model_config:",
            "eval_config: {metrics_set: {gauc: {uid_field: user}}}\nmodel_config:",
            "8: eval_config."
            "metrics_set[0].gauc.uid_field: `user` is no input_name of data_config.input_fields. Did you mean `user_id`?",
        ),
    ],
)
def test_wrong_names(old: str, new: str, message: str) -> None:
    assert old in BASE
    assert errors(BASE.replace(old, new, 1)) == [f"f.yaml:{message}"]


@pytest.mark.parametrize("kind", ["input_layer: {}", "raw_input: {}", "embedding_layer: {embedding_dim: 4}"])
def test_a_block_that_reads_a_group_may_have_its_name(kind: str) -> None:
    assert errors(BASE.replace("name: item_block, ", f"name: item, {kind}, ").replace("item_block", "item")) == []


def test_a_group_that_some_input_reads_is_a_block_too() -> None:
    text = BASE.replace("{block_name: side}", "{block_name: side}, {block_name: user}")
    assert errors(text) == []
    assert errors(BASE.replace("concat_blocks: [main]", "concat_blocks: [main, user]")) == []


def test_a_label_made_of_labels_is_a_label() -> None:
    text = BASE.replace(
        "label_fields: [clk]",
        "label_fields: [clk, both]\n  extra_label_func: {label_name: both, label_func: clk * clk}",
    )
    assert errors(text) == []


def test_columns_are_not_checked_where_none_are_given() -> None:
    text = BASE.replace("  input_fields: [{input_name: user_id}, {input_name: item_id}, {input_name: clk}]\n", "")
    assert errors(text) == []


def test_the_history_of_a_log_is_a_column() -> None:
    text = BASE.replace("label_fields: [clk]", "label_fields: [label]\n  log: {history_field: past}")
    assert errors(text.replace("- {input_names: user_id}", "- {input_names: user_id}\n  - {input_names: past}")) == []


def test_problems_of_types_and_of_names_are_told_together() -> None:
    text = BASE.replace("label_fields: [clk]", "label_fields: [click]\n  batch_size: x")
    assert [line.split(": ")[1] for line in errors(text)] == ["data_config.label_fields[0]", "data_config.batch_size"]
