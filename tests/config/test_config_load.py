# ruff: noqa: E501 (tables of messages)
"""Files -> checked configurations: what is read, from which syntax, and what errors say."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from config_samples import CL4SREC, FULL_PBTEXT, FULL_YAML, MINIMAL, WIDE_AND_DEEP, errors, pbtext, same, yaml

from intarsia.config.load import from_mapping, load, parse_text
from intarsia.config.schema import FieldType, InputType, LossType, PipelineConfig
from intarsia.core.errors import ConfigError


def test_contrastive_example() -> None:
    config = pbtext(CL4SREC).config.model
    assert [group.group_name for group in config.feature_groups] == ["item", "user", "user_seq"]
    assert config.feature_groups[0].feature_names == ["adgroup_id", "cate_id", "price"]
    assert config.backbone is not None
    assert [block.name for block in config.backbone.blocks] == ["user_seq", "contrastive", "main"]
    assert config.backbone.concat_blocks == ["main"]
    assert config.backbone.top_mlp == {"hidden_units": [256, 128]}
    augment = config.backbone.packages[0].blocks[0].layer
    assert augment is not None
    assert augment.class_name == "SeqAugment"
    assert augment.model_extra == {"seq_aug": {"mask_rate": 0.6, "crop_rate": 0.2, "reorder_rate": 0.6}}
    contrastive = config.backbone.blocks[1]
    assert contrastive.layer is not None
    assert contrastive.layer.st_params == {"loss_type": "nce_loss", "loss_weight": 0.1, "temperature": 0.15}
    assert contrastive.merge_inputs_into_list
    assert [(i.package_name, i.package_input) for i in contrastive.inputs] == [("seq_encoder", "seq_augment")] * 2
    assert config.backbone.packages[1].blocks[0].inputs[0].use_package_input is True


def test_wide_and_deep_example() -> None:
    config = pbtext(WIDE_AND_DEEP).config.model
    assert [group.wide_deep for group in config.feature_groups] == ["WIDE", "DEEP"]
    assert config.embedding_regularization == 1e-4
    assert config.backbone is not None
    wide, _, final = config.backbone.blocks
    assert wide.input_layer is not None
    assert wide.input_layer.wide_output_dim == 1
    assert final.inputs[0].input_fn == "lambda x: tf.add_n(x)"
    assert final.kinds == ["layer"]


def test_one_file_in_three_syntaxes_is_one_configuration() -> None:
    one, two = pbtext(FULL_PBTEXT).config, yaml(FULL_YAML).config
    assert same(one, two)
    assert one.data_config.separator == "\x02"
    assert one.feature_config is not None
    assert one.feature_config.features[2].separator == "\x03"
    assert one.feature_config.features[1].boundaries == [0.0, 1.5, 2.0]
    rate = one.train_config.optimizer_config[0].chosen[1].learning_rate.exponential_decay_learning_rate
    assert rate is not None
    assert (rate.decay_factor, rate.min_learning_rate) == (0.5, 1e-5)
    three = parse_text(json.dumps(_camel(_as_json(two))), "json", "f.json").config
    assert same(three, two)


def _as_json(config: PipelineConfig) -> dict[str, Any]:
    from intarsia.config.resolve import resolved

    return resolved(config)


def _camel(value: Any, keys: bool = True) -> Any:
    if isinstance(value, dict):
        raw = "mlp" in value or "hidden_units" in value
        return {(k if raw else _camel_word(k)): _camel(v) for k, v in value.items()}
    return [_camel(v) for v in value] if isinstance(value, list) else value


def _camel_word(word: str) -> str:
    head, *rest = word.split("_")
    return head + "".join(part.title() for part in rest)


def test_proto_json_writes_numbers_as_text_and_enums_as_numbers() -> None:
    text = """{"trainConfig": {"numSteps": "100", "gradientClippingByNorm": "Infinity", "earlyStop": null},
      "dataConfig": {"inputFields": [{"inputName": "x", "inputType": 5}]},
      "modelConfig": {"modelClass": "RankModel", "lossType": 8}}"""
    config = parse_text(text, "json").config
    assert config.train_config.num_steps == 100
    assert config.train_config.gradient_clipping_by_norm == float("inf")
    assert config.data_config.input_fields[0].input_type is FieldType.DOUBLE
    assert config.model.loss_type is LossType.PAIR_WISE_LOSS
    bad = '{"trainConfig": {"numSteps": "1x", "savingSteps": true}, "modelConfig": {"modelClass": 3}}'
    assert errors(bad, "json") == [
        "f.json:1: trainConfig.numSteps: wants a whole number, received the text '1x'",
        "f.json:1: trainConfig.savingSteps: unknown key. Did you mean `save_checkpoints_steps` or `num_steps`?",
        "f.json:1: modelConfig.modelClass: wants text, received the number 3; put it in quotes if it is meant as text",
    ]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("10", "CSVInput"),
        ("19", "ParquetInput"),
        ("CSVInputEx", "CSVInputEx"),
        ("'TFRecordInput'", "TFRecordInput"),
        ("1001", "CriteoInput"),
    ],
)
def test_enums_by_name_and_by_number(written: str, name: str) -> None:
    config = pbtext(f"data_config {{ input_type: {written} }} model_config {{ model_class: 'x' }}").config
    assert config.data_config.input_type is InputType(name)


def test_numbers_of_other_enums() -> None:
    text = """model_config { model_class: 'x' loss_type: 13 loss_weight_strategy: Uncertainty
      feature_groups { group_name: 'a' wide_deep: 1 } feature_groups { group_name: 'b' wide_deep: DEEP } }"""
    config = pbtext(text).config.model
    assert config.loss_type is LossType.JRC_LOSS
    assert config.loss_weight_strategy == "Uncertainty"
    assert [group.wide_deep.value for group in config.feature_groups] == ["WIDE", "DEEP"]
    numbered = pbtext("model_config { model_class: 'x' loss_weight_strategy: 2 }").config.model
    assert numbered.loss_weight_strategy == "Random"
    features = pbtext(
        "feature_config { features { input_names: 'a' feature_type: 5 } } model_config { model_class: 'x' }"
    )
    assert features.config.feature_config is not None
    assert features.config.feature_config.features[0].feature_type == "SequenceFeature"


def test_protobuf_booleans() -> None:
    for written, expected in [("t", True), ("True", True), ("1", True), ("f", False), ("false", False), ("0", False)]:
        config = pbtext(f"data_config {{ shuffle: {written} }} model_config {{ model_class: 'x' }}").config
        assert config.data_config.shuffle is expected


def test_integers_are_floats_and_whole_floats_are_integers() -> None:
    config = yaml(MINIMAL + "train_config: {num_steps: 1e3, gradient_clipping_by_norm: 2}\n").config
    assert repr(config.train_config.num_steps) == "1000"
    assert repr(config.train_config.gradient_clipping_by_norm) == "2.0"


def test_a_lone_value_will_do_for_a_list() -> None:
    text = "model_config: {model_class: x, feature_groups: {group_name: g, feature_names: f}}"
    assert yaml(text).config.model.feature_groups[0].feature_names == ["f"]


def test_shorthands() -> None:
    text = MINIMAL + "train_config: {optimizer: adam, learning_rate: 0.01}\neval_config: {metrics_set: [auc, mae: ]}\n"
    config = yaml(text).config
    assert config.train_config.optimizer is not None
    assert config.train_config.optimizer.chosen[0] == "adam"
    assert config.train_config.learning_rate is not None
    assert config.train_config.learning_rate.constant_learning_rate is not None
    assert config.train_config.learning_rate.constant_learning_rate.learning_rate == 0.01
    assert [m.model_dump(exclude_none=True) for m in config.eval_config.metrics_set] == [
        {"auc": {}},
        {"mean_absolute_error": {}},
    ]


def test_nothing_after_a_key_means_its_default() -> None:
    config = yaml(MINIMAL + "train_config:\n  num_steps:\n  early_stop:\nfeature_config:\n").config
    assert config.train_config.num_steps == 0
    assert config.train_config.early_stop is None


def test_repeated_scalar_the_last_counts_with_a_notice() -> None:
    text = "train_config {\n log_step_count_steps: 1\n log_step_count_steps: 7\n}\nmodel_config { model_class: 'x' }"
    loaded = pbtext(text)
    assert loaded.config.train_config.log_step_count_steps == 7
    assert loaded.notices == [
        "f.config:3: train_config.log_step_count_steps: is set 2 times; the last value, 7, counts"
    ]


def test_repeated_message_is_merged() -> None:
    text = """data_config { batch_size: 5 label_fields: 'a' } model_config { model_class: 'x' }
      data_config { label_fields: 'b' num_epochs: 2 }"""
    data = pbtext(text).config.data_config
    assert (data.batch_size, data.num_epochs, data.label_fields) == (5, 2, ["a", "b"])
    raw = "model_config { model_class: 'x' backbone { top_mlp { a: 1 b: 1 } top_mlp { a: 2 } } }"
    backbone = pbtext(raw).config.model.backbone
    assert backbone is not None
    assert backbone.top_mlp == {"a": [1, 2], "b": 1}


def test_fields_without_effect_are_named_once() -> None:
    text = """train_config {
      sync_replicas: True
      train_distribute: EmbeddingParallelStrategy
    }
    model_config { model_class: 'x' }
    feature_config {
      features { input_names: 'a' max_partitions: 4 }
      features { input_names: 'b' max_partitions: 4 }
    }"""
    loaded = pbtext(text)
    assert loaded.notices == [
        "f.config:2: train_config.sync_replicas: accepted, but has no effect here: there are no parameter servers",
        "f.config:3: train_config.train_distribute: accepted, but has no effect here: the number of processes decides: "
        "torchrun -m intarsia train",
        "f.config:7: feature_config.features.max_partitions: accepted, but has no effect here: a hint for splitting "
        "tables over parameter servers",
    ]
    assert loaded.config.train_config.sync_replicas is None


def test_options_of_match_models_have_no_effect_and_a_notice_says_so() -> None:
    text = """model_config { model_class: 'x'
      feature_groups { group_name: 'item' negative_sampler: true }
      model_params { outputs: 'user_emb' simi_func: 1
        temperature: 0.1 } }"""
    assert [notice.split(" accepted, but has no effect here: ") for notice in pbtext(text).notices] == [
        ["f.config:2: model_config.feature_groups.negative_sampler:", "negatives are not sampled"],
        [
            "f.config:3: model_config.model_params.outputs:",
            "all predictions are written; `add_to_outputs` of a block adds one",
        ],
        ["f.config:3: model_config.model_params.simi_func:", "an option of match models, which are not built in"],
        ["f.config:4: model_config.model_params.temperature:", "an option of match models, which are not built in"],
    ]


def test_source_gives_lines() -> None:
    source = pbtext(CL4SREC).source
    node = source.node("model_config.backbone.packages[1].blocks[0].keras_layer.class_name")
    assert node is not None
    assert node.value == "BST"
    line = CL4SREC.split("\n").index("          class_name: 'BST'") + 1
    assert source.where("model_config.backbone.packages[1].blocks[0].keras_layer.class_name") == f"f.config:{line}"
    # Either spelling, and the nearest place for what is not in the file.
    assert source.where("model_config.backbone.packages[1].blocks[0].layer.class_name") == f"f.config:{line}"
    assert source.where("model_config.backbone.packages[1].blocks[0].layer.st_params") == f"f.config:{line - 1}"
    assert str(source.problem("model_config.model_class", "no.")) == "f.config:4: model_config.model_class: no."


YAML_ERRORS = [
    ("train_confg: {}", "train_confg: unknown key. Did you mean `train_config`?"),
    ("train_config: {num_step: 1}", "train_config.num_step: unknown key. Did you mean `num_steps`?"),
    (
        "train_config: {early_stop: {xyz: 1}}",
        "train_config.early_stop.xyz: unknown key. The keys here: metric, patience, bigger, min_delta.",
    ),
    ("train_config: {num_steps: '5'}", "train_config.num_steps: wants a whole number, received the text '5'"),
    ("train_config: {num_steps: 1.5}", "train_config.num_steps: wants a whole number, received the number 1.5"),
    ("train_config: {num_steps: true}", "train_config.num_steps: wants a whole number, received true"),
    ("train_config: {num_steps: [1]}", "train_config.num_steps: wants a whole number, received a list of 1"),
    ("train_config: {num_steps: {a: 1}}", "train_config.num_steps: wants a whole number, received a message { ... }"),
    (
        "train_config: {gradient_clipping_by_norm: x}",
        "train_config.gradient_clipping_by_norm: wants a number, received the text 'x'",
    ),
    (
        "train_config: {gradient_clipping_by_norm: false}",
        "train_config.gradient_clipping_by_norm: wants a number, received false",
    ),
    ("train_config: {num_steps: -1}", "train_config.num_steps: must be at least 0, received -1"),
    (
        "train_config: {save_checkpoints_secs: 0}",
        "train_config.save_checkpoints_secs: must be more than 0, received 0.0",
    ),
    (
        "train_config: {optimizer: {adam: {beta1: 1}}}",
        "train_config.optimizer.adam.beta1: must be less than 1, received 1.0",
    ),
    ("train_config: {optimizer: adan}", "train_config.optimizer.adan: unknown key. Did you mean `adam` or `adamw`?"),
    (
        "train_config: {mixed_precision: half}",
        "train_config.mixed_precision: the text 'half' is not a value of this key. The right names: off, bf16, fp16.",
    ),
    ("train_config: 5", "train_config: wants a message { ... }, received the number 5"),
    ("data_config: {shuffle: 1}", "data_config.shuffle: wants true or false, received the number 1"),
    (
        "data_config: {separator: 1}",
        "data_config.separator: wants text, received the number 1; put it in quotes if it is meant as text",
    ),
    (
        "data_config: {input_type: CsvInput}",
        "data_config.input_type: the text 'CsvInput' is not a value of this key. Did "
        "you mean `CSVInput` or `CSVInputV2` or `CSVInputEx`?",
    ),
    ("data_config: {input_type: 99}", "data_config.input_type: the number 99 is not a value of this key."),
    ("data_config: {label_fields: [a, ~]}", "data_config.label_fields[1]: wants text, received nothing"),
    (
        "data_config: {input_fields: [{}]}",
        "data_config.input_fields[0].input_name: `input_name` is required and missing",
    ),
    (
        "data_config: {negative_sampler: {}, hard_negative_sampler: {}}",
        "data_config.hard_negative_sampler: only one of "
        "these may be set, received `negative_sampler` (line 2) and `hard_negative_sampler` (line 2)",
    ),
    (
        "feature_config: {features: [{input_names: []}]}",
        "feature_config.features[0].input_names: wants at least 1 element, received 0",
    ),
    (
        "train_input_path: a\nparquet_train_input: b",
        "parquet_train_input: only one of these may be set, received "
        "`train_input_path` (line 2) and `parquet_train_input` (line 3)",
    ),
    (
        "train_config: {optimizer_config: {adam_optimizer: {}, sgd_optimizer: {}}}",
        "train_config.optimizer_config[0]."
        "sgd_optimizer: only one of these may be set, received `adam_optimizer` (line 2) and `sgd_optimizer` (line 2)",
    ),
    (
        "train_config: {learning_rate: {constant_learning_rate: {}, poly_decay_learning_rate: {}}}",
        "train_config."
        "learning_rate.poly_decay_learning_rate: only one of these may be set, received `constant_learning_rate` (line 2) and "
        "`poly_decay_learning_rate` (line 2)",
    ),
    (
        "train_config: {optimizer: {adam: {}, adam_optimizer: {}}}",
        "train_config.optimizer.adam_optimizer: `adam` and `adam_optimizer` are the same key; keep one",
    ),
    ("eval_config: {metrics_set: [{}]}", "eval_config.metrics_set[0]: sets none of `auc`, `gauc`, "),
    (
        "eval_config: {metrics_set: [gauc]}",
        "eval_config.metrics_set[0].gauc.uid_field: `uid_field` is required and missing",
    ),
]


@pytest.mark.parametrize(("text", "message"), YAML_ERRORS)
def test_errors(text: str, message: str) -> None:
    found = errors(MINIMAL + text)
    assert len(found) == 1
    line = 3 if "\n" in text else 2
    assert found[0].startswith(f"f.yaml:{line}: {message}")


BLOCK_ERRORS = [
    (
        "{name: a, inputs: [{}]}",
        "inputs[0]: sets none of `feature_group_name`, `block_name`, `package_name`, `use_package_input`; set one",
    ),
    (
        "{name: a, inputs: [{block_name: a, use_package_input: true}]}",
        "inputs[0].use_package_input: only one of these may "
        "be set, received `block_name` (line 4) and `use_package_input` (line 4)",
    ),
    (
        "{name: a, lambda: {expression: x}, keras_layer: {class_name: MLP}}",
        "keras_layer: only one of these may be set, received `lambda` (line 4) and `keras_layer` (line 4)",
    ),
    (
        "{name: a, layer: {class_name: MLP}, keras_layer: {class_name: MLP}}",
        "keras_layer: `layer` and `keras_layer` are the same key; keep one",
    ),
    (
        "{name: a, layer: {class_name: MLP, mlp: {}, st_params: {}}}",
        "layer.st_params: only one of these may be set, received `mlp` (line 4) and `st_params` (line 4)",
    ),
    ("{name: a, repeat: {num_repeat: 2}}", "repeat.layer: `keras_layer` (or `layer`) is required and missing"),
    ("{inputs: []}", "name: `name` is required and missing"),
    ("{name: a, layer: {class_name: MLP, mpl: 5}}", "layer.mpl: unknown key."),
]


@pytest.mark.parametrize(("block", "message"), BLOCK_ERRORS)
def test_block_errors(block: str, message: str) -> None:
    text = f"model_config:\n  model_class: x\n  backbone: {{blocks: [\n    {block}\n  ]}}\n"
    (found,) = errors(text)
    assert found.startswith(f"f.yaml:4: model_config.backbone.blocks[0].{message}")


def test_text_without_quotes_is_an_enum_in_protobuf() -> None:
    assert errors("model_config { model_class: RankModel }", "pbtext") == [
        "f.config:1: model_config.model_class: wants text, received the word `RankModel`; put it in quotes if it is meant "
        "as text"
    ]


def test_all_problems_at_once_in_order_of_lines() -> None:
    text = "train_config: {num_steps: x}\ndata_config: {batch_size: 0}\nmodel_config:\n  model_clas: y\nfoo: 1\n"
    found = errors(text)
    assert [line.split(": ")[0] for line in found] == [f"f.yaml:{n}" for n in (1, 2, 3, 4, 5)]
    with pytest.raises(ConfigError, match=r"^5 problems:\n  f.yaml:1: train_config.num_steps: "):
        yaml(text)


def test_two_learning_rates_through_merged_messages() -> None:
    text = """train_config { optimizer_config { adam_optimizer {
      learning_rate { constant_learning_rate { } }
      learning_rate { cosine_decay_learning_rate { } }
    } } } model_config { model_class: 'x' }"""
    assert errors(text, "pbtext") == [
        "f.config:3: train_config.optimizer_config[0].adam_optimizer.learning_rate.cosine_decay_learning_rate: only one of "
        "these may be set, received `constant_learning_rate` (line 2) and `cosine_decay_learning_rate` (line 3)"
    ]


@pytest.mark.parametrize("text", ["- 1\n", "5\n", "hello\n"])
def test_a_file_that_is_no_mapping(text: str) -> None:
    (found,) = errors(text)
    assert found.startswith("f.yaml:1:1: a pipeline file is a mapping of keys, received ")


def test_files(tmp_path: Path) -> None:
    def problem(name: str, data: bytes | None = None) -> str:
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(ConfigError) as caught:
            load(path)
        return str(caught.value).replace(str(tmp_path), "DIR")

    good = tmp_path / "good.yml"
    good.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load(good).config.model.model_class == "RankModel"
    upper = tmp_path / "UPPER.CONFIG"
    upper.write_text("model_config { model_class: 'x' }")
    assert load(upper).config.model.model_class == "x"
    assert (
        problem("empty.yaml", b" \n")
        == "DIR/empty.yaml: the file is empty; a pipeline file holds at least `model_config`"
    )
    assert problem("goood.yml") == "DIR/goood.yml: there is no such file; did you mean `good.yml`?"
    assert problem("x.toml", b"") == (
        "DIR/x.toml: a pipeline file ends in one of .config, .pbtxt, .prototxt, .yaml, .yml, .json"
    )
    latin = "a: 1\nb: \xe9t\xe9\n".encode("latin-1")
    assert problem("latin.yaml", latin) == "DIR/latin.yaml:2:1: the file is not UTF-8 text: byte 0xe9; save it as UTF-8"
    (tmp_path / "folder.yaml").mkdir()
    assert problem("folder.yaml") == "DIR/folder.yaml: cannot be read: Is a directory"
    assert "null" in problem("a\0b.yaml") or "no path" in problem("a\0b.yaml")


def test_from_mapping() -> None:
    data = {"model_config": {"model_class": "x", "loss_type": LossType.L2_LOSS}, "model_dir": Path("a/b")}
    config = from_mapping(data).config
    assert (config.model.loss_type, config.model_dir) == (LossType.L2_LOSS, "a/b")
    tuples = {"model_config": {"model_class": "x", "feature_groups": ({"group_name": "g", "feature_names": ("f",)},)}}
    assert from_mapping(tuples).config.model.feature_groups[0].feature_names == ["f"]
    with pytest.raises(ConfigError) as caught:
        from_mapping({"model_config": {"model_class": 5}, "train_config": {"num_steps": "x"}})
    assert [str(problem) for problem in caught.value.problems] == [
        "model_config.model_class: wants text, received the number 5; put it in quotes if it is meant as text",
        "train_config.num_steps: wants a whole number, received the text 'x'",
    ]
    with pytest.raises(
        ConfigError, match=r"^a\[1\]: wants plain data \(text, numbers, lists, mappings\), received object"
    ):
        from_mapping({"a": [1, object()]})
    with pytest.raises(ConfigError, match=r"^a: keys are text, received 1"):
        from_mapping({"a": {1: 2}})
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ConfigError, match="nested deeper than 100 levels"):
        from_mapping({"a": loop})


def test_thousands_of_wrong_names_are_told_quickly() -> None:
    fields = "\n".join(f"  - {{input_name: column_number_{i}}}" for i in range(3000))
    features = "\n".join(f"  - {{input_names: [colum_numbr_{i}], embeding_dim: 8}}" for i in range(3000))
    text = f"data_config:\n  input_fields:\n{fields}\nfeature_config:\n  features:\n{features}\n{MINIMAL}"
    start = time.process_time()
    found = errors(text)
    assert len(found) == 6000
    assert time.process_time() - start < 20
    assert "Did you mean" in found[0]


def test_importing_is_light() -> None:
    code = "import sys, intarsia.config.load; print([m for m in ('torch', 'polars', 'numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
