"""DeepFM: a factorization machine and a deep network over the same embeddings."""

from __future__ import annotations

from pydantic import Field

from intarsia.config.schema import ModelConfig
from intarsia.core.params import StrictModel, config_from_signature
from intarsia.models.blocks import as_backbone, block, group, layer, message, output, require_groups
from intarsia.models.rank_model import RankModel
from intarsia.nn.mlp import DNN

DnnConfig = config_from_signature(DNN)


class DeepFMConfig(StrictModel):
    """DeepFM."""

    dnn: DnnConfig = DnnConfig(hidden_units=[128, 64, 32])  # type: ignore[valid-type,call-arg]
    """Layers over the deep group."""
    final_dnn: DnnConfig | None = None  # type: ignore[valid-type]
    """Layers over all three parts side by side; none: their logits are added."""
    wide_output_dim: int = Field(default=1, ge=1)
    """Width of the wide tables; without final_dnn it is the number of classes."""
    l2_regularization: float = Field(default=1e-4, ge=0)
    """L2 strength on the kernels of the layers."""
    dense_regularization: float | None = Field(default=None, ge=0)
    """Older spelling of l2_regularization, which it overrides."""
    wide_regularization: float | None = Field(default=None, ge=0)
    """Accepted, no effect: upstream deprecated it."""


class DeepFM(RankModel):
    """DeepFM: first-order weights, all pairwise products of embeddings, and a deep network on the same embeddings.

        logit = sum_f w_f[x_f] + sum_{i<j} <e_i, e_j> + head(dnn([e_1, ..., e_F]))

    Use it where Wide & Deep is good and nobody wants to craft crossed features. Groups: `wide` (declared WIDE), `deep`,
    and perhaps `fm` (embeddings of its own for the products; otherwise those of `deep`, as in the paper). All features
    of the products are equally wide. With `final_dnn` the wide vector, the products summed over pairs (not over the
    width) and the deep layers enter further layers side by side.

    Source: Guo et al. 2017, DeepFM: A Factorization-Machine based Neural Network for CTR Prediction, equations 1 to 4.
    Departures: with more than one class the products' vector reaches the logits through a dense layer.
    """

    Config = DeepFMConfig

    @classmethod
    def expand(cls, config: ModelConfig) -> ModelConfig:
        """wide: sum over features. fm: products. deep: DNN. Then their sum, or a final DNN over all."""
        options = message(config, cls)
        groups = require_groups(config, "wide", "deep")
        width = options.wide_output_dim if options.final_dnn else config.num_class
        pairs = output("features", input_slice="[1]")
        blocks = [
            block("wide", group("wide"), input_layer={"only_output_feature_list": True, "wide_output_dim": width}),
            block("wide_sum", output("wide"), layer=layer("Add")),
            block("features", group("deep"), input_layer={"output_2d_tensor_and_feature_list": True}),
            block("deep_dnn", output("features", input_slice="[0]"), layer=layer("DNN", **options.dnn.model_dump())),
        ]
        if "fm" in groups:
            blocks.append(block("fm", group("fm"), input_layer={"only_output_feature_list": True}))
            pairs = output("fm")
        as_vector = bool(options.final_dnn) or config.num_class > 1
        blocks.append(block("products", pairs, layer=layer("FM", use_variant=as_vector)))
        if options.final_dnn:
            parts = [output("wide_sum"), output("products"), output("deep_dnn")]
            blocks.append(block("final_dnn", *parts, layer=layer("DNN", **options.final_dnn.model_dump())))
            blocks.append(block("final", output("final_dnn"), layer=layer("Dense", units=config.num_class)))
        else:
            blocks.append(block("deep_logit", output("deep_dnn"), layer=layer("Dense", units=config.num_class)))
            if as_vector:
                blocks.append(block("fm_logit", output("products"), layer=layer("Dense", units=config.num_class)))
            parts = [output("wide_sum"), output("fm_logit" if as_vector else "products"), output("deep_logit")]
            blocks.append(block("final", *parts, merge_inputs_into_list=True, layer=layer("Add")))
        l2 = options.l2_regularization if options.dense_regularization is None else options.dense_regularization
        return as_backbone(config, blocks, "final", l2)


MODEL = DeepFM
