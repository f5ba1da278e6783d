"""Every example of the documentation runs, every page that is generated is up to date, every link leads somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from blocks import Runner, blocks_of, matches

from intarsia.models import catalogue as models
from intarsia.nn import catalogue as components
from intarsia.recommender import pipeline

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
START = DOCS / "quickstart.md"
PAGES = sorted(page for page in [ROOT / "README.md", *DOCS.glob("*.md")] if page.exists())
TEXTS = sorted({*PAGES, *(p for p in (ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md") if p.exists())})
LANGUAGES = {"python", "bash", "console", "yaml", "protobuf", "text", ""}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with the rows of the quickstart, a cache of its own, and catalogues that forget what a page adds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INTARSIA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "_models", models._models)
    before = dict(components._entries)
    yield tmp_path
    components._entries.clear()
    components._entries.update(before)
    monkeypatch.undo()
    models.names.cache_clear()
    pipeline._model_messages.cache_clear()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_of_the_page_run(page, workplace):
    blocks = blocks_of(page)
    if page != START and START.exists():
        Runner().run(blocks_of(START)[:1])  # makes clicks.csv
    Runner().run(blocks)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_of_a_kind_that_is_run(page):
    for block in blocks_of(page):
        assert block.language in LANGUAGES, f"{block.where}: `{block.language}` is neither run nor checked"
        if block.skipped:
            assert len(block.remark) > len("not run: because"), f"{block.where}: say why it is not run"


def test_generated_pages_are_up_to_date(monkeypatch, capsys):
    module = runpy.run_path(str(DOCS / "generate.py"))
    assert module["main"](["--check"]) == 0, capsys.readouterr().err
    for name in ("components.md", "models.md", "configuration.md"):
        first = (DOCS / name).read_text(encoding="utf-8").split("\n")[0]
        assert "generated" in first
        assert "generate.py" in first


def test_a_stale_page_is_noticed(tmp_path, monkeypatch, capsys):
    module = runpy.run_path(str(DOCS / "generate.py"))
    page = tmp_path / "components.md"
    page.write_text("old", encoding="utf-8")
    scope = module["main"].__globals__
    monkeypatch.setitem(scope, "pages", lambda: {page: "new"})
    assert module["main"](["--check"]) == 1
    assert "components.md is not what the code says" in capsys.readouterr().err
    assert module["main"]([]) == 0
    assert page.read_text(encoding="utf-8") == "new"
    assert module["main"](["--check"]) == 0


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for line in page.read_text(encoding="utf-8").split("\n"):
        heading = re.match(r"^#+ (.*)$", line)
        if heading:
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
            found.add(re.sub(r"[^\w\- ]", "", text).strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{page.name}: {target} leads nowhere"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{page.name}: {file.name} has no heading for #{anchor}"


def test_every_page_is_linked_from_the_index():
    linked = set(re.findall(r"\]\((\w+\.md)", (DOCS / "index.md").read_text(encoding="utf-8")))
    assert linked == {page.name for page in DOCS.glob("*.md")} - {"index.md"}


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.name)
def test_pages_speak_of_the_project_only(page):
    text = page.read_text(encoding="utf-8")
    for pattern in (r"/(work|home|root|tmp|Users)/", r"\u2014", r"\bTODO\b", r"\bXXX\b"):
        assert not re.search(pattern, text), f"{page.name} has {pattern}"


# The machinery itself


def page_of(tmp_path: Path, text: str) -> Path:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def run_page(tmp_path: Path, text: str) -> None:
    Runner().run(blocks_of(page_of(tmp_path, text)))


def test_a_wrong_output_is_noticed(workplace):
    good = '```python\nprint("one\\ntwo")\n```\n\n```text\none\n...\n```\n'
    run_page(workplace, good)
    with pytest.raises(AssertionError, match=r"page\.md:2 prints\none\ntwo\n\ninstead of\ntwo"):
        run_page(workplace, good.replace("one\n...", "two"))


def test_a_failing_command_is_noticed(workplace):
    with pytest.raises(AssertionError, match=r"`intarsia train nothing\.yaml` ends with 2"):
        run_page(workplace, "```bash\nintarsia train nothing.yaml\n```\n")
    run_page(workplace, "<!-- not run: has no such file -->\n\n```bash\nintarsia train nothing.yaml\n```\n")
    with pytest.raises(AssertionError, match="ends with 2"):
        run_page(workplace, "```console\n$ intarsia train nothing.yaml\n...\n```\n")
    run_page(
        workplace, "<!-- exit code 2 -->\n\n```console\n$ intarsia train nothing.yaml\nerror: ...no such file\n```\n"
    )


def test_a_wrong_pipeline_is_noticed(workplace):
    from intarsia.core.errors import ConfigError

    with pytest.raises(ConfigError, match="unknown key"):
        run_page(workplace, "```yaml\ntrain_config: {num_stepz: 1}\n```\n")
    with pytest.raises(ConfigError, match="hiden_units: unknown key"):
        run_page(workplace, "```yaml\nblocks:\n- {name: a, layer: {class_name: MLP, mlp: {hiden_units: [1]}}}\n```\n")


def test_dots_stand_for_anything():
    assert matches("a ... c", "a b c\n")
    assert matches("first\n...\nlast", "first\nx\ny\nlast")
    assert not matches("a ... c", "a b d")
    assert not matches("a", "a b")
