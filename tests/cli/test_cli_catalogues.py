"""components, models, schema, doctor, data."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from intarsia.cli import doctor
from intarsia.models import catalogue as models
from intarsia.nn import catalogue as components


def test_all_components_are_listed(call) -> None:
    said = call("components", "--json")
    assert [row["name"] for row in said.json] == list(components.COMPONENTS)
    assert all(row["summary"] for row in said.json)
    text = call("components")
    assert len(text.out.splitlines()) == 1 + len(components.COMPONENTS)


@pytest.mark.parametrize("name", sorted(components.COMPONENTS))
def test_every_component_is_described_from_its_code(call, name: str) -> None:
    shown = call("components", name, "--json").json
    entry = components.COMPONENTS[name]
    assert shown["message"] == entry.field
    assert [option["name"] for option in shown["options"]] == list(components.config_of(entry).model_fields)
    assert all(option["meaning"] and option["type"] for option in shown["options"])


def test_a_component_as_text(call) -> None:
    said = call("components", "SeqAugmentOps")
    assert said.out.startswith("SeqAugment (also SeqAugmentOps)\n")
    assert "layer: {class_name: SeqAugment, seq_aug: {...}}" in said.out
    assert "mask_rate" in said.out
    assert "0.6" in said.out


@pytest.mark.parametrize(("command", "typo", "near"), [("components", "Corss", "Cross"), ("models", "DepFM", "DeepFM")])
def test_a_typo_gets_the_nearest_names(call, command: str, typo: str, near: str) -> None:
    said = call(command, typo)
    assert said.code == 2
    assert f"Did you mean `{near}`?" in said.err


def test_all_models_are_listed(call) -> None:
    rows = {row["name"]: row for row in call("models", "--json").json}
    assert set(rows) == set(models.names())
    assert rows["RankModel"]["message"] == "backbone"
    assert rows["DeepFM"]["message"] == "deepfm"


def test_a_model_is_described_from_its_code(call) -> None:
    shown = call("models", "DeepFM", "--json").json
    options = {option["name"]: option for option in shown["options"]}
    assert options["wide_output_dim"] == {
        "name": "wide_output_dim",
        "type": "int",
        "default": "1",
        "meaning": "Width of the wide tables; without final_dnn it is the number of classes.",
    }
    assert "Guo et al. 2017" in call("models", "DeepFM").out


def test_the_shipped_configuration(call) -> None:
    said = call("models", "DeepFM", "--yaml")
    path = models.shipped_yaml("DeepFM")
    assert path is not None
    assert said.out == path.read_text(encoding="utf-8")
    none = call("models", "RankModel", "--yaml")
    assert none.code == 2
    assert "ships no configuration" in none.err


def test_the_schema_knows_components_and_models(call) -> None:
    schema = call("schema").json
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "model_config" in schema["properties"]
    text = json.dumps(schema)
    assert "hidden_units" in text
    assert "deepfm" in text
    assert call("schema", "--json").json == schema


# doctor


def test_doctor_finds_this_installation_well(call) -> None:
    said = call("doctor", "--json")
    health = said.json
    required = [problem for problem in health["problems"] if problem["required"]]
    assert (said.code, required) == (0, [])
    assert health["healthy"]
    assert health["facts"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert health["facts"]["cpu_cores"] >= 1
    assert {folder["for"] for folder in health["folders"]} == {"encoded data", "data sets"}
    for folder in health["folders"]:
        assert folder["writable"]


def test_doctor_tells_every_requirement(monkeypatch) -> None:
    lines = ["torch>=2,<3", "polars>=1", 'matplotlib>=3; extra == "plot"']
    monkeypatch.setattr("importlib.metadata.requires", lambda name: lines)
    health = doctor.examine()
    assert [package["name"] for package in health.packages] == ["torch", "polars"]
    assert all(package["works"] for package in health.packages)
    assert [extra["name"] for extra in health.extras] == ["plot"]


def test_a_version_out_of_range_is_an_error_with_a_cure(call, monkeypatch) -> None:
    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["polars>=999"])
    said = call("doctor")
    assert said.code == 1
    assert "is out of the range >=999" in said.out
    assert "cure: pip install 'polars>=999'" in said.out


def test_a_package_that_cannot_be_imported(call, monkeypatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr("importlib.metadata.requires", lambda name: ["polars>=1"])
    monkeypatch.setattr(importlib, "import_module", broken)
    said = call("doctor", "--json")
    assert said.code == 1
    assert not said.json["healthy"]
    assert "libcudart" in said.json["problems"][0]["message"]
    assert said.json["packages"][0]["works"] is False


def test_fbgemm_that_does_not_load_is_a_warning(monkeypatch) -> None:
    monkeypatch.setattr("importlib.metadata.requires", lambda name: ['polars>=1; extra == "fbgemm"'])
    monkeypatch.setattr(doctor, "_loads", lambda modules: "undefined symbol")
    health = doctor.examine()
    problem = next(p for p in health.problems if "FBGEMM" in p.message)
    assert not problem.required
    assert "undefined symbol" in problem.message


def test_without_metadata_doctor_says_so(monkeypatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def gone(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.requires", gone)
    assert list(doctor.requirements()) == []


def test_loading_is_tried_in_a_process_of_its_own() -> None:
    assert doctor._loads("json") is True
    assert "no_such_module" in str(doctor._loads("no_such_module"))


@pytest.mark.parametrize(
    ("version", "bounds", "fits"),
    [
        ("2.13.0+cpu", ">=2.11,<2.14", True),
        ("2.14", ">=2.11,<2.14", False),
        ("2.9.1", ">=2.11", False),
        ("2.10", ">=2.9", True),
        ("1.0", "==1.0.0", True),
        ("1.4.9", "~=1.4.2", True),
        ("1.5.0", "~=1.4.2", False),
        ("3.0rc1", ">=3", True),
        ("1.0", "!=1.0", False),
        ("5", "", True),
    ],
)
def test_version_ranges(version: str, bounds: str, fits: bool) -> None:
    assert doctor.within(version, bounds) is fits


# data


def test_data_sets_are_listed(call) -> None:
    rows = {row["name"]: row for row in call("data", "list", "--json").json}
    assert rows["ml-100k"]["folder"] is None
    assert "not fetched yet" in call("data", "list").out


def test_a_local_data_set_is_described(call, tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("1\t2\t3\t100\n2\t2\t5\t200\n")
    (tmp_path / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|94043\n")
    (tmp_path / "u.item").write_text(
        "2|GoldenEye (1995)|01-Jan-1995||http://x|" + "|".join(["0", "1"] + ["0"] * 17) + "\n"
    )
    said = call("data", "fetch", f"ml-100k:{tmp_path}", "--json")
    assert said.code == 0, said.err
    assert said.json["tables"]["interactions"]["rows"] == 2
    assert said.json["folder"] == str(tmp_path)
    unknown = call("data", "fetch", "ml-100")
    assert unknown.code == 3
    assert "ml-100k" in unknown.err


def test_samples_of_the_taobao_kind(call, tmp_path: Path) -> None:
    said = call("data", "taobao-generate", tmp_path / "a", "--rows", "2000", "--users", "50", "--seed", "4", "--json")
    assert said.code == 0, said.err
    assert sum(said.json["rows"].values()) == 2000
    again = call("data", "taobao-generate", tmp_path / "b", "--rows", "2000", "--users", "50", "--seed", "4")
    assert again.code == 0
    assert "click rate" in again.out
    assert (tmp_path / "a" / "train.csv").read_bytes() == (tmp_path / "b" / "train.csv").read_bytes()


def test_raw_files_that_are_not_there(call, tmp_path: Path) -> None:
    said = call("data", "taobao-convert", tmp_path, tmp_path / "out", "--json")
    assert said.code == 3
    assert "raw_sample.csv" in said.json["error"]["message"]
