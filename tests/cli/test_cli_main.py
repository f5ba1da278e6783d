"""Help, errors, exit codes, signals and pipes."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from intarsia.cli import main as main_module
from intarsia.cli.output import speaks
from intarsia.core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    EvaluationError,
    MissingExtraError,
    Problem,
    TrainingError,
)

HEAVY = ("torch", "polars", "numpy", "pyarrow", "pydantic", "yaml", "scipy", "rich.console")


def program(*words: object, code: str = "") -> list[str]:
    return [sys.executable, *(["-c", code] if code else ["-m", "intarsia"]), *map(str, words)]


def test_help_loads_nothing_heavy_and_is_fast() -> None:
    code = (
        "import sys, time; start = time.process_time()\n"
        "from intarsia.cli.main import run\n"
        "assert run(['--help']) == 0\n"
        "print('SECONDS', time.process_time() - start, file=sys.stderr)\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(program(code=code), capture_output=True, text=True, check=True)
    told = dict(line.split(" ", 1) for line in done.stderr.splitlines())
    assert told["LOADED"] == "[]"
    assert float(told["SECONDS"]) < 0.5
    for command in ("train", "evaluate", "predict", "recommend", "show", "check", "init", "doctor", "data", "schema"):
        assert f"  {command}" in done.stdout


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = f"import sys, intarsia; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(program(code=code), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_has_help(call) -> None:
    for command in ("train", "evaluate", "predict", "recommend", "show", "check", "components", "models", "schema"):
        said = call(command, "--help")
        assert said.code == 0
        assert said.out.startswith(f"Usage: intarsia {command}")


def test_version(call) -> None:
    from intarsia import __version__

    said = call("--version")
    assert (said.code, said.out.strip()) == (0, f"intarsia {__version__}")


def test_an_unknown_command_names_the_nearest(call) -> None:
    said = call("trian")
    assert said.code == 2
    assert said.out == ""
    assert said.err.startswith("error: No such command 'trian'. Did you mean 'train'?")
    assert "intarsia --help" in said.err


def test_a_missing_argument_says_how_the_command_is_used(call) -> None:
    said = call("predict", "run")
    assert said.code == 2
    assert "error: Missing argument" in said.err
    assert "usage: intarsia predict" in said.err
    assert "intarsia predict --help" in said.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "x.yaml", "--resume", "--overwrite"], "Give one of them"),
        (["recommend", "run"], "either --user or --history"),
        (["recommend", "run", "--user", "1", "--history", "2"], "Received: both"),
        (["models", "--yaml"], "name the model"),
        (["predict", "run", "x.csv", "-o", "y.csv", "--batch-size", "0"], "--batch-size"),
        (["train", "x.yaml", "--no-such"], "No such option"),
    ],
)
def test_wrong_usage_exits_with_2(call, words: list[str], told: str) -> None:
    said = call(*words)
    assert said.code == 2
    assert told in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (DataError("x"), 3),
        (CheckpointError("x"), 4),
        (TrainingError("x"), 5),
        (MissingExtraError("p", "e", "Drawing"), 6),
        (EvaluationError("x"), 7),
        (PermissionError(13, "Permission denied", "file.csv"), 1),
        (MemoryError("no"), 1),
        (KeyError("surprise"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_have_exit_codes_and_no_traceback(call, monkeypatch, error: BaseException, code: int) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("intarsia.nn.catalogue.resolve", fail)
    said = call("components", "MLP")
    assert said.code == code
    assert said.out == ""
    assert "Traceback" not in said.err
    assert said.err.startswith("error: ")


def test_plain_words_for_system_errors_and_for_bugs(call, monkeypatch) -> None:
    def refuse(name: str) -> None:
        raise PermissionError(13, "Permission denied", "file.csv")

    monkeypatch.setattr("intarsia.nn.catalogue.resolve", refuse)
    assert call("components", "MLP").err == "error: file.csv: Permission denied\n"

    def surprise(name: str) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr("intarsia.nn.catalogue.resolve", surprise)
    said = call("components", "MLP")
    assert said.err == "error: KeyError: 'surprise'. This should not have happened; --traceback shows where it did.\n"


@pytest.mark.parametrize("place", ["before", "behind"])
def test_traceback_shows_where_an_error_came_from(call, place: str) -> None:
    words = ["--traceback", "components", "MPL"] if place == "before" else ["components", "MPL", "--traceback"]
    said = call(*words)
    assert said.code == 2
    assert "Traceback (most recent call last)" in said.err
    assert "catalogue.py" in said.err


def test_with_json_an_error_is_one_document_too(call, monkeypatch) -> None:
    problems = [Problem("f.yaml:3", "a.b", "wrong"), Problem("f.yaml:9", "c", "missing")]

    def refuse(name: str) -> None:
        raise ConfigError(problems)

    monkeypatch.setattr("intarsia.nn.catalogue.resolve", refuse)
    said = call("components", "MLP", "--json")
    assert said.code == 2
    error = said.json["error"]
    assert (error["kind"], error["exit_code"]) == ("ConfigError", 2)
    assert error["problems"][1] == {"where": "f.yaml:9", "path": "c", "message": "missing"}
    assert call("trian", "--json").json["error"]["exit_code"] == 2


def test_markup_in_messages_is_text(call, monkeypatch) -> None:
    def refuse(name: str) -> None:
        raise DataError("column `[bold]x[/bold]` of [1, 2]")

    monkeypatch.setattr("intarsia.nn.catalogue.resolve", refuse)
    assert call("components", "MLP").err == "error: column `[bold]x[/bold]` of [1, 2]\n"


def test_long_messages_are_not_wrapped(call, monkeypatch) -> None:
    def refuse(name: str) -> None:
        raise DataError("word " * 100 + "end")

    monkeypatch.setattr("intarsia.nn.catalogue.resolve", refuse)
    assert len(call("components", "MLP").err.splitlines()) == 1


@pytest.mark.parametrize("words", [["data", "list"], ["data", "list", "--json"]])
def test_nobody_reads_the_output(words: list[str]) -> None:
    process = subprocess.Popen(program(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read()
    assert (process.wait(timeout=60), told) == (141, "")


def test_ctrl_c_saves_and_resume_goes_on(call, folder: Path, tmp_path: Path) -> None:
    words = ["train", folder / "pipeline.yaml", "-o", tmp_path / "run", "data_config.num_epochs=100000"]
    process = subprocess.Popen(program(*words), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step "):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "--resume goes on" in err
    assert "(SIGINT)" in out
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["stopped_because"] == "SIGINT"
    epochs = f"data_config.num_epochs={result['epochs'] + 1}"
    again = call("train", folder / "pipeline.yaml", "-o", tmp_path / "run", epochs, "--resume", "--json")
    assert again.code == 0, again.err
    assert again.json["stopped_because"] == "num_epochs"
    assert again.json["steps"] == 7 * (result["epochs"] + 1)


def test_only_the_first_process_of_several_prints(call, folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("intarsia.cli.output.speaks", lambda: False)
    said = call("train", folder / "pipeline.yaml", "-o", tmp_path / "run", "train_config.num_steps=1")
    assert (said.code, said.out, said.err) == (0, "", "")


def test_the_first_process_is_told_by_its_rank(monkeypatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert speaks()
    monkeypatch.setenv("RANK", "0")
    assert speaks()
    monkeypatch.setenv("RANK", "1")
    assert not speaks()


def test_main_ends_the_process_with_the_code(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["intarsia", "components", "nothing"])
    with pytest.raises(SystemExit) as end:
        main_module.main()
    assert end.value.code == 2
