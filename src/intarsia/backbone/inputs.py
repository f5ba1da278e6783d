"""Input layers: what comes out of a feature group, in the form that a block asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from intarsia.backbone.groups import Attention, Group
from intarsia.backbone.names import module_name
from intarsia.config.schema import InputLayer as InputLayerConfig
from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.errors import BuildError, ConfigError, Problem
from intarsia.data.schema import FeatureSpec
from intarsia.nn.attention_pool import AttentionPool
from intarsia.nn.din import DIN
from intarsia.nn.dropout import dropout
from intarsia.nn.embedding.columns import concat_vectors
from intarsia.nn.native import BatchNormalization, LayerNormalization
from intarsia.nn.sequence import to_padded
from intarsia.nn.text_cnn import TextCNN

Embedded = Mapping[str, Tensor | Jagged]
Memo = dict[tuple[str, str], Any]
"""Results of one batch that several blocks share, by group and kind."""
DEFAULT_SEQ_DNN = (128, 64, 32, 1)


class GroupReader(nn.Module):
    """Turns a group's looked-up vectors into one (B, D) tensor a feature, or into padded sequences.

    Sequences in an ordinary group are pooled by their `sequence_combiner`; a group's target attentions add their
    output behind the features. However many blocks read the group, that is done once a batch.

    Raises:
        BuildError: A feature cannot be embedded or pooled as the group asks; names the group's place.
    """

    def __init__(self, *, group: Group) -> None:
        super().__init__()
        self.group = group
        self.poolers = nn.ModuleDict()
        self.attentions = nn.ModuleList()
        problems = [Problem("", group.path, text) for text in _unreadable(group)]
        if problems:
            raise BuildError(problems)
        try:
            for spec in group.features:
                if group.is_sequence(spec) and spec.sequence_combiner:
                    self.poolers[module_name(spec.name)] = _pooler(spec, group)
            for attention in group.attentions:
                self.attentions.append(TargetAttention(group=group, attention=attention))
        except ConfigError as error:
            where = f"feature group `{group.name}`"
            problems = [
                Problem("", group.path, f"{where}: {p.path and p.path + ': '}{p.message}") for p in error.problems
            ]
            raise BuildError(problems) from error

    @property
    def width(self) -> int:
        """Width of all features side by side."""
        return sum(self.widths())

    def widths(self) -> list[int]:
        """Width of each entry of `features`."""
        own = [self._pooled_width(spec) for spec in self.group.features]
        return own + [a.out_features for a in self.attentions if isinstance(a, TargetAttention)]

    def _pooled_width(self, spec: FeatureSpec) -> int:
        pooler = self._pooler(spec)
        return pooler.out_features if isinstance(pooler, TextCNN) else self.group.width(spec)

    def _pooler(self, spec: FeatureSpec) -> nn.Module | None:
        name = module_name(spec.name)
        return self.poolers[name] if name in self.poolers else None  # noqa: SIM401 - a ModuleDict has no get

    def check_poolable(self) -> None:
        """Raises BuildError where a sequence of the group cannot become one vector."""
        for spec in self.group.features:
            if self.group.is_sequence(spec) and self._pooler(spec) is None:
                message = (
                    f"the sequence `{spec.name}` must become one vector in the group `{self.group.name}`. Give the "
                    "feature a `sequence_combiner`, or read the group with "
                    "`input_layer: {output_seq_and_normal_feature: true}`"
                )
                raise BuildError([Problem("", self.group.path, message)])

    def check_sequences(self) -> None:
        """Raises BuildError where the group has no sequence to give."""
        if not any(self.group.is_sequence(spec) for spec in self.group.features):
            message = f"output_seq_and_normal_feature needs a sequence, and the group `{self.group.name}` has none"
            raise BuildError([Problem("", self.group.path, message)])

    def features(self, embedded: Embedded, memo: Memo) -> list[Tensor]:
        """One (B, D) tensor a feature, then one a target attention.

        Args:
            embedded: Looked-up vectors.
            memo: What this batch has computed so far.
        """
        key = (self.group.name, "features")
        if key not in memo:
            out = []
            for spec in self.group.features:
                value = embedded[self.group.key(spec)]
                pooler = self._pooler(spec)
                if isinstance(value, Jagged) and pooler is not None:
                    value = pooler(_padded(value, spec))
                out.append(_tensor(value))
            out.extend(attention(embedded) for attention in self.attentions)
            memo[key] = out
        return list(memo[key])

    def sequences(self, embedded: Embedded, memo: Memo) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """Sequences (B, L, D) equally long, the lengths (B,) of the first of them, and the other features (B, D)."""
        key = (self.group.name, "sequences")
        if key not in memo:
            padded, others = [], []
            for spec in self.group.features:
                value = embedded[self.group.key(spec)]
                if isinstance(value, Jagged):
                    padded.append(_padded(value, spec))
                else:
                    others.append(value)
            memo[key] = _equally_long([steps for steps, _ in padded]), padded[0][1], others
        steps, lengths, others = memo[key]
        return list(steps), lengths, list(others)


def _unreadable(group: Group) -> list[str]:
    """What stands against reading a group through tables."""
    out = []
    for spec in group.specs():
        if spec.kind == "raw":
            out.append(
                f"the feature `{spec.name}` of the group `{group.name}` is passed through as it is, so only a block "
                "with `raw_input` can read it. Give it a group of its own"
            )
        elif spec.kind == "id" and not group.wide and not spec.embedding_dim:
            out.append(f"the feature `{spec.name}` of the group `{group.name}` is embedded. Set its embedding_dim")
    return out


def _equally_long(sequences: list[Tensor]) -> list[Tensor]:
    longest = max(steps.shape[1] for steps in sequences)
    return [nn.functional.pad(s, (0, 0, 0, longest - s.shape[1])) if s.shape[1] < longest else s for s in sequences]


def _padded(value: Jagged, spec: FeatureSpec) -> tuple[Tensor, Tensor]:
    return to_padded(value.values, value.offsets, spec.max_length or None)


def _pooler(spec: FeatureSpec, group: Group) -> nn.Module:
    combiner = {name: options for name, options in (spec.sequence_combiner or {}).items() if options is not None}
    if list(combiner) == ["text_cnn"]:
        options = {k: v for k, v in combiner["text_cnn"].items() if v is not None}
        default = spec.max_length or max(options["filter_sizes"])
        options["pad_sequence_length"] = options.get("pad_sequence_length") or default
        return TextCNN(dim=group.width(spec), **options)
    if list(combiner) == ["attention"]:
        return AttentionPool(dim=group.width(spec))
    received = ", ".join(combiner) or "none"
    raise BuildError(f"the sequence_combiner of `{spec.name}` must be `attention` or `text_cnn`. Received: {received}")


class TargetAttention(nn.Module):
    """Attention of a group's sequences to its target item (Zhou et al. 2018, DIN, section 4.3).

    Keys side by side are the query, histories side by side are read; where keys are narrower, `allow_key_transform`
    pads the query with zeros; with `transform_dnn` it is projected, whichever is wider.
    """

    def __init__(self, *, group: Group, attention: Attention) -> None:
        super().__init__()
        self.group, self.attention = group, attention
        options = attention.config
        key_width = sum(group.width(spec) for spec in attention.keys)
        width = sum(group.width(spec) for spec in attention.hist)
        problem = _unfit(group, attention, key_width, width)
        if problem:
            raise BuildError(f"the attention `{attention.name}` {problem}")
        self.transform = nn.Linear(key_width, width) if key_width != width and options.transform_dnn else None
        units = list((options.seq_dnn or {}).get("hidden_units", DEFAULT_SEQ_DNN))
        self.din = DIN(
            dim=width,
            query_dim=width if self.transform is not None else key_width,
            attention_dnn={**(options.seq_dnn or {}), "hidden_units": units},
            need_target_feature=False,
        )
        self.out_features = width + (key_width if options.need_key_feature else 0)
        self.out_features += sum(group.width(spec) for spec in attention.aux)

    def forward(self, embedded: Embedded) -> Tensor:
        """(B, D): the pooled histories, the pooled auxiliary sequences, and the keys if they are wanted."""
        keys = torch.cat([_tensor(embedded[self.group.key(spec)]) for spec in self.attention.keys], dim=-1)
        padded = [_padded(_jagged(embedded[self.group.key(s)]), s) for s in (*self.attention.hist, *self.attention.aux)]
        steps = _equally_long([one for one, _ in padded])
        lengths = padded[0][1]
        count = len(self.attention.hist)
        hist = torch.cat(steps[:count], dim=-1)
        query = keys if self.transform is None else self.transform(keys)
        weights = self.din.weights(hist, lengths, query).unsqueeze(1)  # (B, 1, L)
        out = [(weights @ one).squeeze(1) for one in (hist, *steps[count:])]
        if self.attention.config.need_key_feature:
            out.append(keys)
        return torch.cat(out, dim=-1)


def _unfit(group: Group, attention: Attention, key_width: int, width: int) -> str:
    """Why an attention cannot be built, or an empty text."""
    options = attention.config
    if not attention.keys or not attention.hist:
        return "needs at least one key and one hist_seq"
    if group.wide:
        return "cannot be part of a WIDE group, whose sequences are summed up"
    flat = [spec.name for spec in (*attention.hist, *attention.aux) if not spec.sequence]
    if flat:
        return f"reads histories, so hist_seq and aux_hist_seq name SequenceFeatures. Received: {', '.join(flat)}"
    several = [spec.name for spec in attention.keys if spec.sequence]
    if several:
        return f"compares with one target item, so no key is a SequenceFeature. Received: {', '.join(several)}"
    if key_width == width or (options.allow_key_transform and (key_width < width or options.transform_dnn)):
        return ""
    received = f"Received: keys {key_width}, histories {width}"
    if options.allow_key_transform:
        rule, cure = "can pad keys that are narrower than the histories", "Set transform_dnn, which projects the keys"
    else:
        rule, cure = "needs keys and histories that are equally wide", "Set allow_key_transform"
    return f"{rule}. {received}. {cure}, or make the widths equal"


def _tensor(value: Tensor | Jagged) -> Tensor:
    assert isinstance(value, Tensor)
    return value


def _jagged(value: Tensor | Jagged) -> Jagged:
    assert isinstance(value, Jagged)
    return value


class InputLayer(nn.Module):
    """A feature group in the form that a block asks for.

    Args:
        reader: The group's vectors.
        config: The form, and normalisation and dropout.

    Departures from EasyRec: feature dropout and normalisation may be combined (upstream skips the normalisation).
    """

    def __init__(self, *, reader: GroupReader, config: InputLayerConfig) -> None:
        super().__init__()
        if config.do_batch_norm and config.do_layer_norm:
            raise BuildError("do_batch_norm and do_layer_norm exclude each other: set one of them")
        # In a list, because the reader's parameters belong to the backbone, not to each block that reads.
        self.reader_of = [reader]
        self.config = config
        self.norm: nn.Module | None = None
        self.list_norms = nn.ModuleList()
        if config.output_seq_and_normal_feature:
            reader.check_sequences()
        else:
            reader.check_poolable()
            self._check_widths(reader)
            as_list = config.only_output_feature_list or config.only_output_3d_tensor
            if not as_list:
                self.norm = self._make_norm(reader.width)
            if as_list or config.output_2d_tensor_and_feature_list:
                norms = [self._make_norm(width) for width in reader.widths()]
                self.list_norms.extend(norm for norm in norms if norm is not None)

    def _check_widths(self, reader: GroupReader) -> None:
        widths = reader.widths()
        if self.config.only_output_3d_tensor and not self.config.only_output_feature_list and len(set(widths)) > 1:
            raise BuildError(
                f"only_output_3d_tensor needs equally wide features. Received: widths {widths} in the group "
                f"`{reader.group.name}`"
            )

    def _make_norm(self, width: int) -> nn.Module | None:
        if self.config.do_batch_norm:
            return BatchNormalization(in_features=width)
        return LayerNormalization(in_features=width) if self.config.do_layer_norm else None

    def forward(self, embedded: Embedded, memo: Memo | None = None) -> Any:
        """The group's features; see `InputLayer` in the schema for the forms.

        Args:
            embedded: Looked-up vectors by `group/feature`.
            memo: What this batch has computed so far, shared by all input layers.
        """
        reader, config = self.reader_of[0], self.config
        memo = {} if memo is None else memo
        if config.output_seq_and_normal_feature:
            steps, lengths, others = reader.sequences(embedded, memo)
            if config.concat_seq_feature:
                return _concat(steps), lengths, _concat(others) if others else None
            return steps, lengths, others
        features = self._drop_features(reader.features(embedded, memo))
        if config.only_output_feature_list:
            return self._finish_list(features)
        if config.only_output_3d_tensor:
            return torch.stack(self._finish_list(features), dim=1)
        flat = _concat(features)
        if self.norm is not None:
            flat = self.norm(flat)
        flat = dropout(flat, config.dropout_rate, self.training)
        if config.output_2d_tensor_and_feature_list:
            return flat, self._finish_list(features)
        return flat

    def _finish_list(self, features: list[Tensor]) -> list[Tensor]:
        if len(self.list_norms):
            features = [norm(x) for norm, x in zip(self.list_norms, features, strict=True)]
        rate = self.config.dropout_rate
        return [dropout(x, rate, self.training) for x in features] if rate and self.training else features

    def _drop_features(self, features: list[Tensor]) -> list[Tensor]:
        """In training, zeroes whole features, each with one draw for the whole batch, and scales up the kept ones."""
        rate = self.config.feature_dropout_rate
        if not rate or not self.training:
            return features
        keep = (torch.rand(len(features), device=features[0].device) >= rate) / (1 - rate)
        return [x * scale for x, scale in zip(features, keep, strict=True)]


class RawInput(nn.Module):
    """The tensors of a group's features before any embedding, in order."""

    def __init__(self, *, group: Group) -> None:
        super().__init__()
        self.names = [spec.name for spec in group.features]

    def forward(self, batch: Batch) -> list[Tensor]:
        """(B, D) numbers or (B,) ids of each feature; several values padded to (B, L, D) with 0, or (B, L) with -1."""
        out = []
        for name in self.names:
            feature = batch.features[name]
            if isinstance(feature, Dense):
                out.append(feature.values)
                continue
            inner = feature.inner_offsets
            offsets = feature.offsets if inner is None else inner[feature.offsets]
            if feature.values.dim() > 1:
                out.append(to_padded(feature.values, offsets)[0])
            else:
                out.append(to_padded(feature.values + 1, offsets)[0] - 1)
        return out


def _concat(tensors: list[Tensor]) -> Tensor:
    return concat_vectors(tensors) if len(tensors) > 1 else tensors[0]
