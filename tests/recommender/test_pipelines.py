"""Pipelines from the file to metrics: binary files, and options that are refused."""

import numpy as np
import pytest

from intarsia.core.errors import ConfigError
from intarsia.recommender.fit import run
from intarsia.recommender.pipeline import pipeline_from
from intarsia.recommender.recommender import Recommender


def _write(folder, rows: int, seed: int) -> dict[str, str]:
    rng = np.random.default_rng(seed)
    category = rng.integers(0, 7, (rows, 26)).astype("<u4")
    label = (category[:, 0] < 3).astype("<i4")
    paths = {name: str(folder / f"{name}{seed}.bin") for name in ("category", "dense", "label")}
    category.tofile(paths["category"])
    rng.random((rows, 13)).astype("<f4").tofile(paths["dense"])
    label.tofile(paths["label"])
    return {f"{name}_path": path for name, path in paths.items()}


def test_binary_files_train_and_evaluate(tmp_path):
    features = [{"input_names": [f"c{k}"], "num_buckets": 7, "embedding_dim": 4} for k in (1, 2)]
    pipeline = {
        "binary_train_input": _write(tmp_path, 600, 1),
        "binary_eval_input": _write(tmp_path, 200, 2),
        "data_config": {"input_type": "CriteoInput", "label_fields": ["label"], "batch_size": 50},
        "feature_config": {"features": [*features, {"input_names": ["f1"], "feature_type": "RawFeature"}]},
        "model_config": {
            "model_class": "RankModel",
            "feature_groups": [{"group_name": "all", "feature_names": ["*"]}],
            "backbone": {
                "blocks": [{"name": "all_features", "inputs": [{"feature_group_name": "all"}]}],
                "top_mlp": {"hidden_units": [16]},
            },
        },
        "train_config": {"optimizer": "adam", "learning_rate": 0.01, "num_epochs": 6},
    }
    fitted = run(pipeline_from(pipeline), run_dir=tmp_path / "run")
    assert fitted.rows == {"train": 600, "valid": 200}
    assert fitted.evaluations["valid"].values["auc"].value == pytest.approx(1.0, abs=0.01)
    again = Recommender.load(tmp_path / "run").evaluate()
    assert again.values == fitted.evaluations["valid"].values


def test_options_that_no_model_of_this_version_honours_are_refused():
    pipeline = {
        "train_input_path": "x.csv",
        "feature_config": {"features": [{"input_names": ["a"], "num_buckets": 3, "embedding_dim": 4}]},
        "data_config": {"label_fields": ["y"], "negative_sampler": {"num_sample": 3}},
        "model_config": {
            "model_class": "RankModel",
            "feature_groups": [{"group_name": "all", "feature_names": ["a"]}],
            "backbone": {"blocks": [{"name": "x", "inputs": [{"feature_group_name": "all"}]}]},
            "kd": [{"pred_name": "logits"}],
        },
    }
    with pytest.raises(ConfigError) as caught:
        pipeline_from(pipeline)
    told = str(caught.value)
    assert "data_config.negative_sampler: sampled negatives are not available in this version" in told
    assert "model_config.kd: distillation losses are not available in this version" in told
