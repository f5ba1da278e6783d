"""The fenced blocks of a page of documentation, and how each kind of them is run.

- ```python runs, all blocks of a page in one namespace. A ```text block right behind it is what it prints.
- ```bash: every line is a command; `intarsia ...` runs in this process and must succeed.
- ```console: lines that start with `$ ` are commands, what follows them is what they print.
- ```yaml and ```protobuf: a pipeline, or a piece of one, loaded strictly. On a page that has shown a whole pipeline, a
  piece of a model is put into that pipeline and the model is built.

The first line `# name.ext` of a block is a file: the block is written there. In expected output `...` stands for
anything. HTML comments before a fence say what is special: `<!-- not run: reason -->`, `<!-- exit code 2 -->`.

    python tests/docs/blocks.py docs/page.md        fills in what console and python blocks of a page print
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intarsia.cli.main import run as run_command
from intarsia.config.fields import fields_of
from intarsia.config.load import parse_text
from intarsia.config.nodes import plain
from intarsia.config.schema import Backbone, FeatureConfig, ModelConfig, PipelineConfig
from intarsia.config.yamltext import parse
from intarsia.recommender.pipeline import extensions, located, pipeline_from
from intarsia.recommender.prepare import schema_without_data

_FENCE = re.compile(r"^```(\w*)\s*$")
_COMMENT = re.compile(r"^<!-- (.*) -->$")
_FILE = re.compile(r"^# ([\w./-]+\.(?:yaml|config|json|py|csv|txt))$")
_EXIT = re.compile(r"exit code (\d+)")


@dataclass
class Block:
    """A fenced block.

    Attributes:
        page: The page.
        line: 1-based line of its first line of content.
        language: What stands behind the fence.
        text: The content.
        remark: The HTML comment before it, or empty.
        follows: Whether it stands right behind another block.
    """

    page: Path
    line: int
    language: str
    text: str
    remark: str
    follows: bool

    @property
    def where(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def skipped(self) -> bool:
        return self.remark.startswith("not run:")

    @property
    def file(self) -> str:
        found = _FILE.match(self.text.split("\n", 1)[0])
        return found[1] if found else ""


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").split("\n")
    remark, at, last_end = "", 0, -9
    while at < len(lines):
        comment = _COMMENT.match(lines[at])
        fence = _FENCE.match(lines[at])
        if fence:
            end = next(k for k in range(at + 1, len(lines)) if lines[k] == "```")
            text = "\n".join(lines[at + 1 : end])
            found.append(Block(page, at + 2, fence[1], text, remark, last_end >= at - 2))
            at = last_end = end
        remark = comment[1] if comment else remark if not lines[at].strip() else ""
        at += 1
    return found


def matches(expected: str, found: str) -> bool:
    """Whether an output is the expected one; `...` stands for anything, blanks at line ends for nothing."""
    parts = [re.escape(part) for part in _tidy(expected).split("...")]
    return re.fullmatch(".*?".join(parts), _tidy(found), re.DOTALL) is not None


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").split("\n")).strip("\n")


def call(command: str) -> tuple[int, str]:
    """Exit code and output (standard error included) of one line of a shell."""
    words = shlex.split(command, comments=True)
    target = words[words.index(">") + 1] if ">" in words else None
    words = words[: words.index(">")] if target else words
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = run_command(words[1:])
    if target:
        Path(target).write_text(out.getvalue(), encoding="utf-8")
        return code, ""
    return code, out.getvalue()


class Runner:
    """Runs the blocks of one page in the current folder."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__docs__"}
        self.base: dict[str, Any] | None = None

    def run(self, blocks: list[Block]) -> None:
        """Runs all blocks in order.

        Raises:
            AssertionError: A block fails or prints something else than the page says; names page and line.
        """
        for k, block in enumerate(blocks):
            after = blocks[k + 1] if k + 1 < len(blocks) else None
            if block.skipped:
                continue
            output = after.text if after and after.language == "text" and after.follows else None
            self.run_one(block, output)

    def run_one(self, block: Block, output: str | None) -> None:
        """Runs one block."""
        if block.file and not block.file.startswith(("src/", "tests/")):
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text + "\n", encoding="utf-8")
        if block.language == "python":
            printed = self.python(block)
            told = f"{block.where} prints\n{printed}\ninstead of\n{output}"
            assert output is None or matches(output, printed), told
        elif block.language == "yaml":
            self.yaml(block)
        elif block.language == "protobuf":
            parse_text(block.text, "pbtext", block.where, extensions=extensions())
        elif block.language == "bash":
            self.bash(block)
        elif block.language == "console":
            for command, expected, code, printed in self.console(block):
                wanted = _EXIT.search(block.remark)
                assert code == int(wanted[1] if wanted else 0), (
                    f"{block.where}: `{command}` ends with {code}\n{printed}"
                )
                told = f"{block.where}: `{command}` prints\n{printed}\ninstead of\n{expected}"
                assert matches(expected, printed), told

    def python(self, block: Block) -> str:
        """What a block of Python prints."""
        if block.file.startswith("src/intarsia/models/"):
            add_model(Path(block.file).stem, block.text)
            return ""
        if block.file.startswith("tests/"):
            run_tests(Path(block.file).name, block.text)
            return ""
        out = io.StringIO()
        code = compile("\n" * (block.line - 1) + block.text, str(block.page), "exec")
        with contextlib.redirect_stdout(out):
            exec(code, self.names)  # noqa: S102 (the project's own pages)
        return out.getvalue()

    def bash(self, block: Block) -> None:
        """Every command of a block succeeds."""
        for line in block.text.replace("\\\n", " ").split("\n"):
            words = shlex.split(line, comments=True)
            if not words:
                continue
            assert words[0] == "intarsia", f"{block.where}: only intarsia is run here; say why not: <!-- not run: -->"
            code, printed = call(line)
            assert code == 0, f"{block.where}: `{line}` ends with {code}\n{printed}"

    def console(self, block: Block) -> list[tuple[str, str, int, str]]:
        """Commands with expected output, exit code and output."""
        found = []
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            found.append((command, expected, *call(command)))
        return found

    def yaml(self, block: Block) -> None:
        """A pipeline or a piece of one is right; with features at hand, its model is built."""
        if block.file and not block.file.endswith(".yaml"):
            return
        data: Any = plain(parse(block.text, block.where))
        whole = whole_pipeline(data, block.where)
        given = whole is data and "model_config" in data
        if given:
            parse_text(block.text, "yaml", block.where, extensions=extensions())
        if given and "feature_config" in data:
            self.base = data
        elif self.base is not None and not {"feature_config", "data_config"} & set(whole):
            model = self.merged(whole["model_config"])
            whole = {**self.base, **whole, "model_config": model}
        elif self.base is None and "feature_groups" not in whole["model_config"]:
            names = dict.fromkeys(re.findall(r"feature_group_name: (\w+)", block.text))
            whole["model_config"]["feature_groups"] = [{"group_name": name} for name in names]
        loaded = pipeline_from(whole, name=block.where)
        features = loaded.config.feature_config
        if features is None or not features.features or not loaded.config.data_config.label_fields:
            return
        schema = schema_without_data(loaded.config)
        if schema is not None and (loaded.config.model.backbone or loaded.config.model.model_extra):
            from intarsia.models.catalogue import build

            with located(loaded.source):
                build(loaded.config.model, schema)

    def merged(self, piece: dict[str, Any]) -> dict[str, Any]:
        """The page's model with a piece of it replaced; blocks take the place of a named model."""
        model = dict((self.base or {})["model_config"])
        if "backbone" not in piece:
            return {**model, **{key: value for key, value in piece.items() if key != "model_class"}}
        return {**{key: value for key, value in model.items() if key in fields_of(ModelConfig)}, **piece}


def add_model(name: str, text: str) -> None:
    """Puts a model where the catalogue finds it, as if its file were in the package."""
    import types

    from intarsia.models import catalogue
    from intarsia.recommender import pipeline

    module = types.ModuleType(f"intarsia.models.{name}")
    sys.modules[module.__name__] = module
    exec(text, module.__dict__)  # noqa: S102 (the project's own pages)
    known = [entry for entry in catalogue._models() if entry[0] != name]
    catalogue._models = lambda: iter([*known, (name, module.MODEL)])
    catalogue.names.cache_clear()
    pipeline._model_messages.cache_clear()


def run_tests(name: str, text: str) -> None:
    """Runs a test file in this process, beside the contract of models."""
    import pytest

    Path(name).write_text(text, encoding="utf-8")
    contract = str(Path(__file__).parents[1] / "models")
    sys.path.insert(0, contract)
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            code = pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", ".", "-c", os.devnull, name])
    finally:
        sys.path.remove(contract)
    assert code == 0, out.getvalue()


def whole_pipeline(data: Any, where: str) -> dict[str, Any]:
    """A pipeline around a piece of one."""
    model = {"model_class": "RankModel"}
    if isinstance(data, list):
        return {"feature_config": {"features": data}, "model_config": model}
    keys = set(data)
    if keys <= set(fields_of(PipelineConfig)):
        return data if "model_config" in data else {**data, "model_config": model}
    if keys <= set(fields_of(FeatureConfig)):
        return {"feature_config": {"features": [data]}, "model_config": model}
    if keys <= set(fields_of(Backbone)):
        data = {"backbone": data}
    if set(data) <= set(fields_of(ModelConfig)):
        return {"model_config": {**model, **data}}
    raise AssertionError(f"{where}: not a piece of a pipeline: {', '.join(sorted(keys))}")


def fill(page: Path) -> None:
    """Writes what console blocks, and python blocks with a text block behind them, print into the page."""
    runner, blocks = Runner(), blocks_of(page)
    lines = page.read_text(encoding="utf-8").split("\n")
    edits: list[tuple[Block, str]] = []
    for k, block in enumerate(blocks):
        after = blocks[k + 1] if k + 1 < len(blocks) else None
        if block.skipped:
            continue
        if block.language == "console":
            parts = []
            for command, expected, _, printed in runner.console(block):
                shown = expected if matches(expected, printed) and expected.strip() else _tidy(printed)
                parts.append(f"$ {command}\n{shown}".rstrip("\n"))
            edits.append((block, "\n".join(parts)))
        elif block.language == "python" and after is not None and after.language == "text" and after.follows:
            printed = runner.python(block)
            edits.append((after, after.text if matches(after.text, printed) and after.text else _tidy(printed)))
        else:
            runner.run_one(block, None)
    for block, text in reversed(edits):
        height = block.text.count("\n") + 1 if lines[block.line - 1] != "```" else 0
        lines[block.line - 1 : block.line - 1 + height] = text.split("\n")
    page.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        os.environ["INTARSIA_CACHE"] = f"{folder}/cache"
        pages = [Path(name).resolve() for name in sys.argv[1:]]
        start = Path(__file__).parents[2] / "docs" / "quickstart.md"
        os.chdir(folder)
        for one in pages:
            if one != start:
                Runner().run(blocks_of(start)[:1])
            fill(one)
