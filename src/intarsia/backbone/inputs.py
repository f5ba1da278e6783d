"""Input layers: what comes out of a feature group, in the form that a block asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from intarsia.backbone.groups import Attention, Group
from intarsia.config.schema import InputLayer as InputLayerConfig
from intarsia.core.batch import Batch, Dense, Jagged
from intarsia.core.errors import BuildError, Problem
from intarsia.data.schema import FeatureSpec
from intarsia.nn.attention_pool import AttentionPool
from intarsia.nn.din import DIN
from intarsia.nn.native import BatchNormalization, LayerNormalization
from intarsia.nn.sequence import to_padded
from intarsia.nn.text_cnn import TextCNN

Embedded = Mapping[str, Tensor | Jagged]
DEFAULT_SEQ_DNN = (128, 64, 32, 1)


class GroupReader(nn.Module):
    """Turns a group's looked-up vectors into one (B, D) tensor a feature, or into padded sequences.

    Sequences in an ordinary group are pooled by their `sequence_combiner`; a group's target attentions add their
    output behind the features.
    """

    def __init__(self, *, group: Group) -> None:
        super().__init__()
        self.group = group
        self.poolers = nn.ModuleDict()
        self.attentions = nn.ModuleList()
        for spec in group.features:
            if spec.sequence and not group.wide and spec.sequence_combiner:
                self.poolers[spec.name] = _pooler(spec, group)
        for attention in group.attentions:
            self.attentions.append(TargetAttention(group=group, attention=attention))

    @property
    def width(self) -> int:
        """Width of all features side by side."""
        return sum(self.widths())

    def widths(self) -> list[int]:
        """Width of each entry of `features`."""
        own = [self._pooled_width(spec) for spec in self.group.features]
        return own + [a.out_features for a in self.attentions if isinstance(a, TargetAttention)]

    def _pooled_width(self, spec: FeatureSpec) -> int:
        pooler = self.poolers[spec.name] if spec.name in self.poolers else None
        return pooler.out_features if isinstance(pooler, TextCNN) else self.group.width(spec)

    def check_poolable(self) -> None:
        """Raises BuildError where a sequence of the group cannot become one vector."""
        for spec in self.group.features:
            if spec.sequence and not self.group.wide and spec.name not in self.poolers:
                raise BuildError(
                    [
                        Problem(
                            "",
                            self.group.path,
                            f"the sequence `{spec.name}` must become one vector in the group `{self.group.name}`. Give "
                            "the feature a `sequence_combiner`, or read the group with "
                            "`input_layer: {output_seq_and_normal_feature: true}`",
                        )
                    ]
                )

    def features(self, embedded: Embedded) -> list[Tensor]:
        """One (B, D) tensor a feature, then one a target attention."""
        out = []
        for spec in self.group.features:
            value = embedded[self.group.key(spec)]
            if isinstance(value, Jagged):
                steps, lengths = _padded(value, spec)
                value = self.poolers[spec.name]((steps, lengths))
            out.append(value)
        out.extend(attention(embedded) for attention in self.attentions)
        return out

    def sequences(self, embedded: Embedded) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """Sequences (B, L, D) equally long, the lengths (B,) of the first of them, and the other features (B, D)."""
        padded, others = [], []
        for spec in self.group.features:
            value = embedded[self.group.key(spec)]
            if isinstance(value, Jagged):
                padded.append(_padded(value, spec))
            else:
                others.append(value)
        if not padded:
            raise BuildError(
                [
                    Problem(
                        "",
                        self.group.path,
                        f"output_seq_and_normal_feature needs a sequence, and the group `{self.group.name}` has none",
                    )
                ]
            )
        longest = max(steps.shape[1] for steps, _ in padded)
        steps = [nn.functional.pad(s, (0, 0, 0, longest - s.shape[1])) if s.shape[1] < longest else s for s, _ in padded]
        return steps, padded[0][1], others


def _padded(value: Jagged, spec: FeatureSpec) -> tuple[Tensor, Tensor]:
    return to_padded(value.values, value.offsets, spec.max_length or None)


def _pooler(spec: FeatureSpec, group: Group) -> nn.Module:
    combiner = dict(spec.sequence_combiner or {})
    if combiner.get("text_cnn") is not None:
        options = {k: v for k, v in combiner["text_cnn"].items() if v is not None}
        options["pad_sequence_length"] = options.get("pad_sequence_length") or spec.max_length or max(options["filter_sizes"])
        return TextCNN(dim=group.width(spec), **options)
    if combiner.get("attention") is not None:
        return AttentionPool(dim=group.width(spec))
    raise BuildError(
        [
            Problem(
                "",
                group.path,
                f"the sequence_combiner of `{spec.name}` must be `attention` or `text_cnn`. Received: {list(combiner)}",
            )
        ]
    )


class TargetAttention(nn.Module):
    """Attention of a group's sequences to its target item (Zhou et al. 2018, DIN, section 4.3).

    Keys side by side are the query, histories side by side are read; where the widths differ, `allow_key_transform`
    allows a narrower key to be padded, or with `transform_dnn` to be projected.
    """

    def __init__(self, *, group: Group, attention: Attention) -> None:
        super().__init__()
        self.group, self.attention = group, attention
        key_width = sum(group.width(spec) for spec in attention.keys)
        width = sum(group.width(spec) for spec in attention.hist)
        where = Problem("", group.path, "")
        options = attention.config
        if not attention.keys or not attention.hist:
            raise BuildError([_with(where, f"the attention `{attention.name}` needs at least one key and one hist_seq")])
        if key_width != width and not options.allow_key_transform:
            raise BuildError(
                [
                    _with(
                        where,
                        f"keys and histories of the attention `{attention.name}` must be equally wide. Received: keys "
                        f"{key_width}, histories {width}. Set allow_key_transform, or make the widths equal",
                    )
                ]
            )
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
        longest = max(steps.shape[1] for steps, _ in padded)
        steps = [nn.functional.pad(s, (0, 0, 0, longest - s.shape[1])) for s, _ in padded]
        lengths = padded[0][1]
        count = len(self.attention.hist)
        hist = torch.cat(steps[:count], dim=-1)
        query = keys if self.transform is None else self.transform(keys)
        scores = self.din.weights(hist, lengths, query)
        out = [(scores.unsqueeze(1) @ hist).squeeze(1)]
        out.extend((scores.unsqueeze(1) @ aux).squeeze(1) for aux in steps[count:])
        if self.attention.config.need_key_feature:
            out.append(keys)
        return torch.cat(out, dim=-1)


def _with(problem: Problem, message: str) -> Problem:
    return Problem(problem.where, problem.path, message)


def _tensor(value: Tensor | Jagged) -> Tensor:
    return value.values if isinstance(value, Jagged) else value


def _jagged(value: Tensor | Jagged) -> Jagged:
    if not isinstance(value, Jagged):
        raise BuildError("histories of an attention must be sequence features")
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
        self.reader_of = [reader]  # in a list: the reader's parameters belong to the backbone, not to each reading block
        self.config = config
        self.norm: nn.Module | None = None
        self.list_norms = nn.ModuleList()
        if not config.output_seq_and_normal_feature:
            reader.check_poolable()
            as_list = config.only_output_feature_list or config.only_output_3d_tensor
            if not as_list:
                self.norm = self._make_norm(reader.width)
            if as_list or config.output_2d_tensor_and_feature_list:
                norms = [self._make_norm(width) for width in reader.widths()]
                self.list_norms.extend(norm for norm in norms if norm is not None)

    def _make_norm(self, width: int) -> nn.Module | None:
        if self.config.do_batch_norm:
            return BatchNormalization(in_features=width)
        return LayerNormalization(in_features=width) if self.config.do_layer_norm else None

    def forward(self, embedded: Embedded) -> Any:
        """The group's features; see `InputLayer` in the schema for the forms."""
        reader, config = self.reader_of[0], self.config
        if config.output_seq_and_normal_feature:
            steps, lengths, others = reader.sequences(embedded)
            if config.concat_seq_feature:
                return torch.cat(steps, -1) if len(steps) > 1 else steps[0], lengths, _concat(others) if others else None
            return steps, lengths, others
        features = self._drop_features(reader.features(embedded))
        if config.only_output_feature_list:
            return self._finish_list(features)
        if config.only_output_3d_tensor:
            widths = reader.widths()
            if len(set(widths)) > 1:
                raise BuildError(
                    f"only_output_3d_tensor needs equally wide features. Received: widths {widths} in the group "
                    f"`{reader.group.name}`"
                )
            return torch.stack(self._finish_list(features), dim=1)
        flat = _concat(features)
        if self.norm is not None:
            flat = self.norm(flat)
        flat = nn.functional.dropout(flat, config.dropout_rate, self.training)
        if config.output_2d_tensor_and_feature_list:
            return flat, self._finish_list(features)
        return flat

    def _finish_list(self, features: list[Tensor]) -> list[Tensor]:
        if len(self.list_norms):
            features = [norm(x) for norm, x in zip(self.list_norms, features, strict=True)]
        rate = self.config.dropout_rate
        return [nn.functional.dropout(x, rate, self.training) for x in features] if rate and self.training else features

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
        """(B, D) numbers or (B,) ids of each feature; sequences padded to (B, L, D)."""
        out = []
        for name in self.names:
            feature = batch.features[name]
            if isinstance(feature, Dense):
                out.append(feature.values)
            else:
                values = feature.values if feature.values.dim() > 1 else feature.values.unsqueeze(1)
                out.append(to_padded(values.float(), feature.offsets, None)[0])
        return out


def _concat(tensors: list[Tensor]) -> Tensor:
    return torch.cat(tensors, dim=-1) if len(tensors) > 1 else tensors[0]
