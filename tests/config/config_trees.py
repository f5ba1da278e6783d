"""Random right configurations, drawn from the schema itself."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from intarsia.config.fields import Model, Shape, extension_kind, fields_of, one_ofs
from intarsia.config.schema import PipelineConfig

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NUMBERS = st.integers(2, 50)
RATES = st.floats(0.05, 0.95)
FREE = st.dictionaries(TEXT, st.one_of(TEXT, NUMBERS, RATES, st.booleans(), st.lists(NUMBERS, max_size=3)), max_size=3)

# Names must name something and be unique; tests of names have files of their own.
LEFT_OUT = {
    "feature_groups",
    "features",
    "feature_configs",
    "feature_config",
    "backbone",
    "input_fields",
    "task_towers",
    "label_fields",
    "label_name",
    "sample_weight",
    "feature_fields",
    "seq_att_groups",
    "log",
    "metrics_set",
    "metrics",
    "filter",
    "index",
}


@st.composite
def pipelines(draw: st.DrawFn) -> dict[str, Any]:
    """A right pipeline as plain data."""
    return draw(_messages(PipelineConfig, 0))


@st.composite
def _messages(draw: st.DrawFn, model: Model, depth: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    groups = [set(group.keys) for group in one_ofs(model)]
    chosen = [draw(st.sampled_from(sorted(group))) for group in groups]
    for key, item in fields_of(model).items():
        if item.no_effect is not None or (key in LEFT_OUT and not item.required):
            continue
        if any(key in group and key != keep for group, keep in zip(groups, chosen, strict=True)):
            continue
        if item.required or draw(st.integers(0, 3)) == 0:
            out[key] = draw(_values(item.shape, depth + 1))
    if extension_kind(model) == "model" and draw(st.booleans()):
        out["some_model"] = draw(FREE)
    return out


def _values(shape: Shape, depth: int) -> st.SearchStrategy[Any]:
    if shape.kind == "message" and shape.model is not None:
        return _messages(shape.model, depth)
    if shape.kind == "list" and shape.inner is not None:
        return st.lists(_values(shape.inner, depth), min_size=1, max_size=2)
    if shape.kind == "choice":
        return st.sampled_from(shape.options)
    if shape.kind == "union":
        return st.one_of([_values(member, depth) for member in shape.members])
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "int": NUMBERS,
        "float": RATES,
        "text": TEXT,
        "mapping": FREE,
        "any": TEXT,
    }
    return kinds[shape.kind]
