"""Writes the pages that are generated from the code, and the computed examples of docs/features.md.

    python docs/generate.py            writes what has changed
    python docs/generate.py --check    says what would change, and exits with 1 if anything would

`components.md`, `models.md`, `objectives.md` and `configuration.md` come out of docstrings and declared options. In
`features.md` the prose is written by hand; what stands between `<!-- encode ... -->` and `<!-- end -->` is what the
real encoder makes of the raw columns named there, with the feature of the YAML block above.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from intarsia.config.fields import NUMBER_KEYS, SHORT_KEYS, Shape, fields_of
from intarsia.config.nodes import plain
from intarsia.config.schema import PipelineConfig
from intarsia.config.schema.data import DataConfig
from intarsia.config.schema.features import FeatureConfig
from intarsia.config.yamltext import parse
from intarsia.core.params import describe, type_name
from intarsia.data.columns import Column, DenseColumn
from intarsia.data.features import FeatureEncoder
from intarsia.data.schema import FeatureSpec
from intarsia.models import catalogue as models
from intarsia.models.retriever import ItemScorer, Retriever
from intarsia.nn import catalogue as components
from intarsia.nn.activations import ACTIVATIONS
from intarsia.nn.initializers import INITIALIZERS
from intarsia.objectives.catalogue import LOSSES
from intarsia.objectives.retrieval.catalogue import OBJECTIVES, SAMPLERS, objective_messages, sampler_messages

HERE = Path(__file__).parent
HEAD = "*This page is generated from the code by `make docs` (docs/generate.py). Change the code, not the page.*\n"
_SECTION = re.compile(r"^(Args|Raises|Returns|Attributes|Yields|Example):$")
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


# Docstrings and tables


def prose(text: str) -> str:
    """A docstring as Markdown: without the sections on arguments and errors, which the tables and code tell."""
    kept: list[str] = []
    inside = False
    for line in inspect.cleandoc(text).splitlines():
        if _SECTION.match(line):
            inside = True
        elif inside and line and not line.startswith(" "):
            inside = False
        if not inside:
            kept.append(line if line.startswith("    ") else line.replace("<", "&lt;"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def cell(text: str) -> str:
    """Text inside a table."""
    return " ".join(text.split()).replace("|", "\\|")


def bounds(info: FieldInfo) -> str:
    """The allowed range of an option in words; empty where there is none."""
    words = []
    for constraint in info.metadata:
        for name, word in _BOUNDS.items():
            value = getattr(constraint, name, None)
            if value is not None:
                words.append(f"{word} {value:g}")
    return ", ".join(words)


def meaning_of(info: FieldInfo, meaning: str) -> str:
    """What an option means, and its range."""
    allowed = bounds(info)
    text = cell(meaning)
    return f"{text} {allowed.capitalize()}." if allowed else text


def options_table(config: type[BaseModel]) -> str:
    """The options of a component or model."""
    rows = ["| option | type | default | meaning |", "|---|---|---|---|"]
    for name, kind, _, meaning in describe(config):
        info = config.model_fields[name]
        rows.append(
            f"| `{name}` | {cell(kind).replace(chr(39), '')} | {default_of(info)} | {meaning_of(info, meaning)} |"
        )
    return "\n".join(rows)


def default_of(info: FieldInfo) -> str:
    """A default as a pipeline file would have it."""
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if value is None or value == "" or value == []:
        return "-"
    if isinstance(value, BaseModel):
        given = value.model_dump(exclude_unset=True)
        return "`{" + ", ".join(f"{key}: {inner}" for key, inner in given.items()) + "}`" if given else "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{cell(str(value.value if isinstance(value, Enum) else value))}`"


# Components


def components_page() -> str:
    """Every component of the catalogue."""
    out = [
        HEAD,
        "# Components\n",
        "What a block's `layer` can be. A component is named by `class_name`; its options are in the message of its "
        "own name, or in `st_params`, which every component takes:\n",
        "```yaml\nblocks:\n  - name: top\n    inputs: [{feature_group_name: deep}]\n"
        "    layer: {class_name: MLP, mlp: {hidden_units: [64, 32]}}\n  - name: sum\n"
        "    inputs: [{block_name: top}]\n    layer: {class_name: Dense, st_params: {units: 1}}\n```\n",
        "Widths of inputs are never written: each component is sized by what flows into it. Shapes are told in "
        "letters: B rows of a batch, L length of a history, F features, D width. `intarsia components NAME` "
        "prints one entry of this page. How to add a component: [extending](extending.md).\n",
        "| component | in short |\n|---|---|",
    ]
    entries = list(components.COMPONENTS.values())
    out += [f"| [{e.name}](#{e.name.lower()}) | {cell(prose(e.cls.__doc__ or '').splitlines()[0])} |" for e in entries]
    for entry in entries:
        out += ["", *_component(entry)]
    out += ["", "## Activations", "", _activations(), "", "## Initial values", "", _initializers()]
    return "\n".join(out) + "\n"


def _component(entry: components.ComponentEntry) -> Iterator[str]:
    yield f"## {entry.name}\n"
    yield prose(entry.cls.__doc__ or "") + "\n"
    yield f"Shapes: {prose(entry.cls.forward.__doc__ or '').splitlines()[0]}\n"
    where = f"`{entry.field}` or `st_params`" if entry.field else "`st_params`"
    also = f" Also called {', '.join(f'`{name}`' for name in entry.aliases)}." if entry.aliases else ""
    config = components.config_of(entry)
    if not config.model_fields:
        yield f"It has no options.{also}"
        return
    yield f"Options in {where}.{also}\n"
    yield options_table(config)


def _activations() -> str:
    names = ", ".join(f"`{name}`" for name in ACTIVATIONS)
    return (
        f"Wherever an option is an activation: {names}; one of them under a path such as `tf.nn.relu`, or a lambda "
        "such as `lambda x: tf.maximum(x, 0)`. `gelu` is the tanh approximation, `leaky_relu` has the slope 0.2, "
        "`dice` and `prelu` learn a slope for each feature."
    )


def _initializers() -> str:
    names = ", ".join(f"`{name}`" for name in INITIALIZERS)
    return (
        f"Wherever an option is an initializer: {names}. The scales are those of Keras. `xavier_...` is `glorot_...`."
    )


# Models


def models_page() -> str:
    """Every named model, what each can do, and the losses."""
    out = [
        HEAD,
        "# Models\n",
        "What `model_config.model_class` can be. `intarsia models NAME` prints one entry of this page, and `intarsia "
        "models NAME --yaml` the configuration that ships with it. How to add a model: [extending](extending.md).\n",
    ]
    names = sorted(models.names().items())
    ranks = [(name, module) for name, module in names if not issubclass(models.resolve(name), ItemScorer)]
    retrieves = [(name, module) for name, module in names if issubclass(models.resolve(name), ItemScorer)]
    out += ["## Models that score rows\n", _RANKS, *_in_short(ranks), ""]
    out += ["## Models that rank a catalogue\n", _RETRIEVES, *_in_short(retrieves), "", *_abilities(retrieves)]
    for name, module in ranks + retrieves:
        out += ["", *_model(name, module)]
    return "\n".join([*out, "", *_losses()]) + "\n"


_RANKS = (
    "They read the features of a row and predict its label. `RankModel` takes the blocks that a pipeline file lists; "
    "the others are short names for blocks and have a message of their own.\n"
)
_RETRIEVES = (
    "They learn from an interaction log and score every item for a user or a history ([interactions](interactions.md)"
    "). Those that are trained take any of the [objectives](objectives.md).\n"
)


def _in_short(names: list[tuple[str, str]]) -> Iterator[str]:
    yield "| model | message | in short |\n|---|---|---|"
    for name, module in names:
        model = models.resolve(name)
        message = f"`{module}`" if model.Config is not None else "`backbone`"
        yield f"| [{name}](#{name.lower()}) | {message} | {cell(prose(model.__doc__ or '').splitlines()[0])} |"


def _abilities(names: list[tuple[str, str]]) -> Iterator[str]:
    """What each model that ranks a catalogue can do, as its class says; the tests hold every class to it."""
    yield "### What each can do\n"
    yield (
        "Every one of them recommends for a known user, for a user whom training never saw but who has a history, and "
        "for somebody of whom nothing is known; the table says how.\n"
    )
    heads = (
        "model",
        "computed or trained",
        "known user",
        "unseen user with a history",
        "empty history",
        "item to item",
        "index",
        "side features",
        "default objective",
    )
    yield f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}"
    for name, _ in names:
        model = models.resolve(name)
        assert issubclass(model, ItemScorer)
        trained = issubclass(model, Retriever)
        known = "by the user's vector" if "user" in model.reads else "by the history" if model.reads else "as anybody"
        stranger = "by the history" if "history" in model.reads else "as anybody"
        features = inspect.signature(model.__init__).parameters.get("sides") is not None
        cells = (
            f"[{name}](#{name.lower()})",
            f"trained (`{model.view}`)" if issubclass(model, Retriever) else "computed",
            known,
            stranger,
            "own answer" if model.answers_empty else "popular items",
            "cosine of item vectors" if model.indexable else "as a history of one item",
            "yes" if model.indexable else "-",
            "yes" if features else "-",
            f"`{_spelled(model.default_objective)}`" if trained and issubclass(model, Retriever) else "-",
        )
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield (
        "The word after `trained` is the kind of training rows: `pairs` of a user and an item, the `next` item after a "
        "history, all steps of a history at once (`causal`), hidden steps (`masked`)."
    )


def _spelled(spec: Any) -> str:
    return (
        spec
        if isinstance(spec, str)
        else "{" + ", ".join(f"{name}: {_flow(given)}" for name, given in spec.items()) + "}"
    )


def _flow(given: Any) -> str:
    return json.dumps(given).replace('"', "")


def _model(name: str, module: str) -> Iterator[str]:
    model = models.resolve(name)
    yield f"## {name}\n"
    yield prose(model.__doc__ or "") + "\n"
    if model.Config is not None and model.Config.model_fields:
        yield f"Options in `model_config.{module}`:\n"
        yield options_table(model.Config)
        yield ""
    elif model.Config is not None:
        yield "It has no options.\n"
    shipped = models.shipped_yaml(name)
    if shipped is not None:
        yield f"The configuration that ships with it (`intarsia train {name} --data ml-100k`):\n"
        yield f"```yaml\n{shipped.read_text(encoding='utf-8').rstrip()}\n```"
    else:
        yield "It ships no configuration: its blocks are the pipeline's own ([backbone](backbone.md))."


# Objectives


def objectives_page() -> str:
    """What retrievers minimise, and where negatives come from."""
    out = [
        HEAD,
        "# Objectives and negatives of retrievers\n",
        "What `model_config.objective` and `model_config.negatives` can be, for any model that is trained to rank a "
        "catalogue. A bare word takes the defaults:\n",
        "```yaml\nmodel_config:\n  model_class: MF\n  objective: {bpr: {num_negatives: 4}}\n"
        "  negatives: {popularity: {alpha: 0.75}}\n```\n",
        "P positives, n negatives of each, N items. Without `negatives` they are drawn uniformly.\n",
        "| objective | in short |\n|---|---|",
    ]
    out += [f"| [{name}](#objective{name}) | {_first(cls)} |" for name, cls in OBJECTIVES.items()]
    out += ["", "| negatives | in short |\n|---|---|"]
    out += [f"| [{name}](#negatives{name}) | {_first(cls)} |" for name, cls in SAMPLERS.items()]
    for kind, classes, messages in (
        ("objective", OBJECTIVES, objective_messages()),
        ("negatives", SAMPLERS, sampler_messages()),
    ):
        for name, cls in classes.items():
            out += ["", f"## {kind}.{name}\n", prose(cls.__doc__ or ""), ""]
            if messages[name].model_fields:
                out += [f"Options in `model_config.{kind}.{name}`:\n", options_table(messages[name])]
            else:
                out += ["It has no options."]
    return "\n".join(out) + "\n"


def _first(cls: type) -> str:
    return cell(prose(cls.__doc__ or "").splitlines()[0])


def _losses() -> Iterator[str]:
    yield "## Losses\n"
    yield (
        "`model_config.loss_type`, or several in `losses`, each with a `weight`. Other loss types of EasyRec are known "
        "and refused.\n"
    )
    yield "| loss_type | predicts | labels | name in logs |\n|---|---|---|---|"
    for loss_type, entry in LOSSES.items():
        tasks = dict.fromkeys(entry.task(count) for count in (1, 3))
        told = []
        for count in (1, 3) if len(tasks) > 1 else (1,):
            rule = entry.labels(count)
            if rule.high == float("inf"):
                told.append("any finite number")
            elif rule.integer:
                told.append("0 to num_class - 1 (several classes)")
            else:
                told.append(f"{rule.low:g} to {rule.high:g}")
        labels = "; ".join(dict.fromkeys(told))
        yield f"| `{loss_type.value}` | {' or '.join(tasks)} | {labels} | `{entry.name}` |"


# Configuration


Place = list[str]
Messages = dict[type[BaseModel], Place]

MAX_PLACES = 4


def configuration_page() -> str:
    """Every message of a pipeline file."""
    found = _messages()
    out = [
        HEAD,
        "# The pipeline file, key by key\n",
        "Names and defaults are EasyRec's; what has no counterpart there says so. `intarsia schema` prints the same as "
        "JSON schema, for editors. How a file is written: [pipeline](pipeline.md). Components have a page of their own "
        "([components](components.md)), and so have the messages of named models ([models](models.md)).\n",
        "The parts of a file: "
        + ", ".join(f"[{_name(m)}](#{_anchor(m)})" for m in found if "." not in found[m][0])
        + ".",
    ]
    for model, places in found.items():
        out += ["", *_message(model, places, found)]
    return "\n".join(out) + "\n"


def _messages() -> Messages:
    """Messages with their places in a file, in the order in which they are met."""
    found: Messages = {PipelineConfig: [""]}
    waiting: list[tuple[type[BaseModel], str]] = [(PipelineConfig, "")]
    while waiting:
        model, place = waiting.pop(0)
        inner = []
        for key, item in fields_of(model).items():
            for child in _models_in(item.shape) if item.no_effect is None else ():
                at = f"{place}.{key}" if place else key
                if child not in found:
                    inner.append((child, at))
                found.setdefault(child, []).append(at)
        waiting = inner + waiting
    return found


def _models_in(shape: Shape) -> Iterator[type[BaseModel]]:
    if shape.model is not None:
        yield shape.model
    for inner in (*shape.members, *([shape.inner] if shape.inner else [])):
        yield from _models_in(inner)


def _name(model: type[BaseModel]) -> str:
    return model.__name__


def _anchor(model: type[BaseModel]) -> str:
    return _name(model).lower()


def _message(model: type[BaseModel], places: Place, found: Messages) -> Iterator[str]:
    yield f"## {_name(model)}\n"
    shortest = sorted(dict.fromkeys(places), key=len)
    more = f", and {len(shortest) - MAX_PLACES} more places" if len(shortest) > MAX_PLACES else ""
    if places[0]:
        yield "In " + ", ".join(f"`{place}`" for place in shortest[:MAX_PLACES]) + more + ".\n"
    yield prose(model.__doc__ or "") + "\n"
    words = SHORT_KEYS.get(model)
    if words:
        yield f"A bare word will do: {', '.join(f'`{word}`' for word in words)}.\n"
    if model in NUMBER_KEYS:
        yield f"A bare number is `{'.'.join(NUMBER_KEYS[model])}`.\n"
    fields = fields_of(model)
    used = {key: item for key, item in fields.items() if item.no_effect is None}
    if used:
        yield "| key | type | default | meaning |\n|---|---|---|---|"
    for key, item in used.items():
        info = model.model_fields[item.name]
        others = [spelling for spelling in item.spellings if spelling != key]
        also = f" Also spelled {', '.join(f'`{name}`' for name in others)}." if others else ""
        kind = _linked(item.shape) or _choices(item.shape) or cell(type_name(info.annotation)).replace("'", "")
        text = meaning_of(info, info.description or "") + also
        yield f"| `{key}` | {kind} | {default_of(info)} | {text} |"
    idle: dict[str, list[str]] = {}
    for key, item in fields.items():
        if item.no_effect is not None:
            idle.setdefault(item.no_effect, []).append(key)
    if idle:
        yield "\nAccepted, without effect here:\n"
        for why, keys in idle.items():
            yield f"- {', '.join(f'`{key}`' for key in keys)}: {cell(why)}."


def _linked(shape: Shape) -> str:
    """The type of a field that holds messages, as a link to them; empty for other fields."""
    links = " or ".join(f"[{_name(model)}](#{_anchor(model)})" for model in _models_in(shape))
    return f"list of {links}" if links and shape.kind == "list" else links


def _choices(shape: Shape) -> str:
    """The type of a field that takes one of several words; empty for other fields."""
    return " \\| ".join(str(option) for option in shape.options) if shape.kind == "choice" else ""


# Examples of features

_ENCODE = re.compile(r"(<!-- encode\n(?P<columns>.*?)\n-->\n)(?P<table>.*?)(<!-- end -->)", re.DOTALL)
_YAML = re.compile(r"```yaml\n(.*?)```", re.DOTALL)


def features_page(text: str) -> str:
    """The page with its examples computed anew."""
    out, at = "", 0
    for found in _ENCODE.finditer(text):
        feature = _YAML.findall(text[: found.start()])[-1]
        out += text[at : found.start()] + found[1] + example(feature, json.loads(found["columns"])) + found[4]
        at = found.end()
    return out + text[at:]


def example(feature: str, columns: dict[str, list[Any]]) -> str:
    """Raw cells beside what the encoder makes of them, and what arrives in a batch."""
    written: Any = plain(parse(feature, "docs/features.md"))
    configs = [FeatureConfig.model_validate(one) for one in (written if isinstance(written, list) else [written])]
    frame = pl.DataFrame(columns, strict=False)
    encoder = FeatureEncoder(configs, DataConfig()).fit(frame)
    encoded = {name: _as_rows(column) for name, column in encoder.transform(frame).items()}
    specs = encoder.schema_features
    heads = [*(f"column `{name}`" for name in columns), *(f"feature `{name}`" for name in encoded)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in range(frame.height):
        cells = [*(_raw(columns[name][row]) for name in columns), *(rows[row] for rows in encoded.values())]
        lines.append("| " + " | ".join(cell(text) for text in cells) + " |")
    for name, spec in specs.items():
        lines += ["", f"`{name}`: {_in_words(spec)}"]
    for name, vocabulary in encoder.vocabularies.items():
        rows = {vocabulary.first_row + k: value for k, value in enumerate(vocabulary.values.to_list())}
        known = ", ".join(f"{row} = `{value}`" for row, value in rows.items())
        lines += ["", f"Rows of `{name}`: {'0 = unseen, ' if vocabulary.first_row else ''}{known}."]
    return "\n".join(lines) + "\n"


def _raw(value: Any) -> str:
    return "(empty)" if value in (None, "") else f"`{value}`"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _vector(values: list[Any]) -> str:
    return "[" + ", ".join(_vector(v) if isinstance(v, list) else _number(v) for v in values) + "]"


def _as_rows(column: Column) -> list[str]:
    if isinstance(column, DenseColumn):
        cells = column.values.tolist()
        return [_vector(v) if isinstance(v, list) else "missing" if v == -1 else _number(v) for v in cells]
    values: list[Any] = column.values.tolist()
    if column.inner_offsets is not None:
        values = [values[a:b] for a, b in pairwise(column.inner_offsets.tolist())]
    out = []
    for start, end in zip(column.starts.tolist(), column.ends.tolist(), strict=True):
        text = _vector(values[start:end])
        if column.weights is not None:
            text += f" weights {_vector(column.weights[start:end].tolist())}"
        out.append(text)
    return out


def _in_words(spec: FeatureSpec) -> str:
    numbers = "one number" if spec.width == 1 else f"{spec.width} numbers"
    what = f"ids of a table with {spec.num_ids} rows" if spec.kind == "id" else f"{numbers} a value"
    if spec.sequence:
        shape = f"a sequence of at most {spec.max_length} steps" if spec.max_length else "a sequence of any length"
    elif spec.multi:
        shape = f"several values a row, combined by `{spec.combiner}`"
    else:
        shape = "one value a row"
    return f"{what}; {shape}{'; with weights' if spec.weighted else ''}."


# Pages


def pages() -> dict[Path, str]:
    """The text of every generated page."""
    out = {
        HERE / "components.md": components_page(),
        HERE / "models.md": models_page(),
        HERE / "objectives.md": objectives_page(),
        HERE / "configuration.md": configuration_page(),
    }
    features = HERE / "features.md"
    if features.exists():
        out[features] = features_page(features.read_text(encoding="utf-8"))
    return out


def main(arguments: list[str]) -> int:
    """Writes or checks the pages."""
    unknown = [word for word in arguments if word != "--check"]
    if unknown:
        sys.stderr.write(f"usage: python docs/generate.py [--check]; received {' '.join(unknown)}\n")
        return 2
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if "--check" in arguments:
            sys.stderr.write(f"{path.name} is not what the code says; run: make docs\n")
        else:
            path.write_text(pages()[path], encoding="utf-8")
            sys.stdout.write(f"written: {path.name}\n")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
