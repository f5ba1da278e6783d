"""Mistakes in `feature_config`, found before any data are read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise

from intarsia.config.schema.features import FeatureConfig, FeatureType
from intarsia.core.errors import IntarsiaError, Problem
from intarsia.core.expressions.columns import compile_expr, compile_numeric_function
from intarsia.data.features.sources import NO_SOURCE

_RANGE = re.compile(r"^(.*)\[(\d+)-(\d+)\]$")
_MAX_PRECISION = 15


def expand_shared(features: Sequence[FeatureConfig], auto_expand: bool = False) -> list[FeatureConfig]:
    """The features, each followed by its copies for the columns in `shared_names`.

    Args:
        features: As written.
        auto_expand: Whether `name[1-3]` stands for name1, name2, name3 (`auto_expand_input_fields`).
    """
    expanded: list[FeatureConfig] = []
    for config in features:
        expanded.append(config.model_copy(update={"shared_names": []}) if config.shared_names else config)
        for name in _names(config.shared_names, auto_expand):
            own = {"feature_name": name, "input_names": [name], "shared_names": []}
            expanded.append(config.model_copy(update=own))
    return expanded


def is_embedded_id(config: FeatureConfig) -> bool:
    """Whether the feature arrives as ids, so that it can only enter a model through a table."""
    kind = config.feature_type
    if kind is FeatureType.SequenceFeature:
        kind = config.sub_feature_type
    if kind is FeatureType.RawFeature:
        return bool(config.boundaries) or (config.num_buckets > 1 and config.max_val > config.min_val)
    return kind not in (FeatureType.ExprFeature, FeatureType.PassThroughFeature)


def has_table(config: FeatureConfig) -> bool:
    """Whether the feature is embedded: it arrives as ids, or as numbers with an `embedding_dim`."""
    numbers = config.feature_type in (FeatureType.ExprFeature, FeatureType.PassThroughFeature)
    return is_embedded_id(config) or (config.embedding_dim > 0 and not numbers)


def shared_tables(features: Sequence[FeatureConfig]) -> dict[str, list[FeatureConfig]]:
    """The `embedding_name`s that at least two features use; a name used once stands for nothing."""
    tables: dict[str, list[FeatureConfig]] = {}
    for config in features:
        if config.embedding_name and has_table(config):
            tables.setdefault(config.embedding_name, []).append(config)
    return {name: users for name, users in tables.items() if len(users) > 1}


def check_features(
    features: Sequence[FeatureConfig],
    *,
    embedded: Collection[str] | None = None,
    columns: Collection[str] | None = None,
) -> list[Problem]:
    """All mistakes in the features' options.

    Args:
        features: As written.
        embedded: Names of the features that enter a group which embeds them with their own `embedding_dim`; the
            others may leave it out. Default: all.
        columns: Raw columns that exist. Default: not checked.

    Returns:
        Problems with paths such as `feature_config.features[3].boundaries`; `where` is left to the caller.
    """
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for k, config in enumerate(features):
        path = f"feature_config.features[{k}]"
        for name in [config.name, *config.shared_names]:
            if name in seen:
                message = f"feature names must be different. Received `{name}`, which features[{seen[name]}] has."
                problems.append(Problem("", path, f"{message} Set another feature_name."))
            seen.setdefault(name, k)
        for field, message in _mistakes(config, embedded is None or config.name in embedded):
            problems.append(Problem("", f"{path}.{field}", f"{message} (feature `{config.name}`)"))
        if columns is not None:
            problems += _unknown_columns(config, path, columns)
    return problems + _disagreements(features)


def _mistakes(config: FeatureConfig, needs_dim: bool) -> Iterator[tuple[str, str]]:
    """(field, message) of everything wrong with one feature by itself."""
    kind = config.feature_type
    inputs = config.input_names
    numeric = kind is FeatureType.RawFeature
    if kind is FeatureType.SequenceFeature:
        numeric = config.sub_feature_type is FeatureType.RawFeature
        if config.sub_feature_type not in (FeatureType.IdFeature, FeatureType.RawFeature):
            yield "sub_feature_type", f"must be IdFeature or RawFeature. Received: {config.sub_feature_type}."
            return
        if numeric and config.hash_bucket_size:
            yield (
                "hash_bucket_size",
                "hashes text, and sub_feature_type is RawFeature. Set sub_feature_type: IdFeature.",
            )
        if numeric and is_embedded_id(config) and config.raw_input_dim > 1:
            yield "raw_input_dim", f"must be 1 where steps become buckets. Received: {config.raw_input_dim}."
    if is_embedded_id(config):
        if not numeric and not _has_source(config):
            yield "hash_bucket_size", NO_SOURCE
        if needs_dim and config.embedding_dim == 0:
            yield "embedding_dim", "must be at least 1 for a feature that arrives as ids. Received: 0."
    if kind is FeatureType.ComboFeature:
        if len(inputs) < 2:
            yield "input_names", f"a ComboFeature combines at least 2 columns. Received: {inputs}."
        if not config.combo_join_sep and not config.hash_bucket_size and _has_source(config):
            yield "hash_bucket_size", "must be set for a ComboFeature without combo_join_sep, whose ids are hashes."
        if len(config.combo_input_seps) > len(inputs):
            yield (
                "combo_input_seps",
                f"has at most one separator for each of {len(inputs)} inputs. Received {len(config.combo_input_seps)}.",
            )
    if kind is FeatureType.LookupFeature:
        if config.feature_name is None:
            yield "feature_name", "must be set for a LookupFeature, which is neither of its two columns."
        if len(inputs) != 2:
            yield "input_names", f"a LookupFeature reads 2 columns, a key and a map. Received: {inputs}."
        if not config.kv_separator:
            yield "kv_separator", "must be set for a LookupFeature: what stands between a key and its value."
    if kind is FeatureType.TagFeature:
        if len(inputs) > 2:
            yield "input_names", f"a TagFeature reads a column of tags and one of weights. Received: {inputs}."
        if len(inputs) == 2 and config.kv_separator:
            yield "kv_separator", f"weights stand behind each tag or in column `{inputs[1]}`, not in both. Remove one."
    if kind is FeatureType.ExprFeature:
        if not config.expression:
            yield "expression", "must be set for an ExprFeature."
        elif message := _refused(lambda: compile_expr(config.expression, inputs)):
            yield "expression", message
    elif config.normalizer_fn and (message := _refused(lambda: compile_numeric_function(config.normalizer_fn or ""))):
        yield "normalizer_fn", message
    yield from _bad_values(config)


def _bad_values(config: FeatureConfig) -> Iterator[tuple[str, str]]:
    borders = config.boundaries
    if any(right <= left for left, right in pairwise(borders)):
        yield "boundaries", f"must be in increasing order, all different. Received: {borders}."
    if config.max_val < config.min_val and config.max_val != 0:  # 0, the default, means that nothing is scaled
        yield "max_val", f"must not be below min_val = {config.min_val}. Received: {config.max_val}."
    doubled = (
        sorted({value for value in config.vocab_list if config.vocab_list.count(value) > 1})
        if (len(set(config.vocab_list)) < len(config.vocab_list))
        else []
    )
    if doubled:
        yield "vocab_list", f"must hold different values. Received more than once: {doubled[:5]}."
    kind = config.feature_type
    if kind in (FeatureType.IdFeature, FeatureType.RawFeature) and len(config.input_names) > 1:
        yield (
            "input_names",
            f"must be one column for {kind}. Received: {config.input_names}. Make a feature of each, or combine them.",
        )
    other = [
        field for field in ("hash_bucket_size", "vocab_list", "vocab_file", "num_buckets") if getattr(config, field)
    ]
    if config.vocab == "auto" and other:
        yield "vocab", f"must be the only source of ids. Received `vocab: auto` and {', '.join(other)}. Remove one."
    if config.precision > _MAX_PRECISION:
        yield "precision", f"must be at most {_MAX_PRECISION}. Received: {config.precision}."
    if config.min_count > 1 and config.vocab != "auto":
        yield "min_count", f"is read only with `vocab: auto`. Received: {config.min_count}. Remove it or set vocab."
    for field in ("initializer", "sequence_combiner"):
        message = getattr(config, field)
        chosen = [] if message is None else list(message.model_dump(exclude_none=True))
        if message is not None and len(chosen) != 1:
            allowed = ", ".join(type(message).model_fields)
            yield field, f"must have exactly one of: {allowed}. Received: {chosen or 'none'}."
        if "multi_head_attention" in chosen:
            yield (
                field,
                "multi_head_attention as a combiner is implemented neither in EasyRec nor here. "
                "Use attention or text_cnn, or put the sequence through a block.",
            )


def _has_source(config: FeatureConfig) -> bool:
    return bool(config.hash_bucket_size or config.vocab_list or config.vocab_file or config.vocab or config.num_buckets)


def _refused(compile_it: Callable[[], object]) -> str:
    try:
        compile_it()
    except IntarsiaError as error:
        return str(error)
    return ""


def _unknown_columns(config: FeatureConfig, path: str, columns: Collection[str]) -> Iterator[Problem]:
    for field, names in (("input_names", config.input_names), ("shared_names", config.shared_names)):
        for name in names:
            if name in columns or _RANGE.match(name):
                continue
            near = difflib.get_close_matches(name, list(columns), n=1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            message = f"column `{name}` is not among data_config.input_fields.{hint}"
            yield Problem("", f"{path}.{field}", f"{message} (feature `{config.name}`)")


def _disagreements(features: Sequence[FeatureConfig]) -> list[Problem]:
    """Features that share a table and do not agree on what it is."""
    place = {config.name: k for k, config in enumerate(features)}
    place |= {name: k for k, config in enumerate(features) for name in config.shared_names}
    problems = []
    for table, users in shared_tables(expand_shared(features)).items():
        first = users[0]
        for other in users[1:]:
            for field, mine, theirs in _compared(first, other):
                message = (
                    f"features that share embedding_name `{table}` must agree in {field}. Received {theirs} for "
                    f"`{other.name}` and {mine} for `{first.name}`. Make them equal or drop embedding_name."
                )
                problems.append(Problem("", f"feature_config.features[{place[other.name]}]", message))
    return problems


def _compared(first: FeatureConfig, other: FeatureConfig) -> Iterator[tuple[str, object, object]]:
    pairs: list[tuple[str, object, object]] = [
        ("embedding_dim", first.embedding_dim, other.embedding_dim),
        ("combiner", first.combiner, other.combiner),
        ("initializer", _plain(first), _plain(other)),
    ]
    learned = _is_learned(first), _is_learned(other)
    if any(learned):
        pairs.append(("`vocab: auto`", *learned))
        pairs.append(("min_count", first.min_count, other.min_count))
    else:
        sizes = table_size(first), table_size(other)
        if None not in sizes:
            pairs.append(("table size", *sizes))
    yield from (pair for pair in pairs if pair[1] != pair[2])


def _plain(config: FeatureConfig) -> object:
    return None if config.initializer is None else config.initializer.model_dump(exclude_none=True)


def _is_learned(config: FeatureConfig) -> bool:
    given = config.hash_bucket_size or config.vocab_list or config.vocab_file
    return is_embedded_id(config) and config.vocab == "auto" and not given


def table_size(config: FeatureConfig) -> int | None:
    """Rows of the feature's table, or None where only data or a file can tell."""
    raw = config.feature_type is FeatureType.RawFeature or (
        config.feature_type is FeatureType.SequenceFeature and config.sub_feature_type is FeatureType.RawFeature
    )
    if raw:
        buckets = len(config.boundaries) + 1 if config.boundaries else config.num_buckets
        return buckets * config.raw_input_dim if is_embedded_id(config) else config.raw_input_dim
    if config.hash_bucket_size:
        return config.hash_bucket_size
    if config.vocab_list:
        return len(config.vocab_list)
    if config.vocab_file or config.vocab:
        return None
    return config.num_buckets


def _names(names: Sequence[str], auto_expand: bool) -> Iterator[str]:
    for name in names:
        found = _RANGE.match(name) if auto_expand else None
        if found is None:
            yield name
        else:
            yield from (f"{found[1]}{k}" for k in range(int(found[2]), int(found[3]) + 1))
