"""Wide & Deep: a linear model and a deep one, trained together."""

from __future__ import annotations

from pydantic import Field

from intarsia.config.schema import ModelConfig
from intarsia.core.params import StrictModel, config_from_signature
from intarsia.models.blocks import as_backbone, block, group, layer, message, output, require_groups
from intarsia.models.rank_model import RankModel
from intarsia.nn.mlp import DNN

DnnConfig = config_from_signature(DNN)


class WideAndDeepConfig(StrictModel):
    """Wide & Deep."""

    dnn: DnnConfig = DnnConfig(hidden_units=[128, 64, 32])  # type: ignore[valid-type,call-arg]
    """Layers over the deep group."""
    final_dnn: DnnConfig | None = None  # type: ignore[valid-type]
    """Layers over both parts side by side; none: their logits are added."""
    wide_output_dim: int = Field(default=1, ge=1)
    """Width of the wide tables; without final_dnn it is the number of classes."""
    l2_regularization: float = Field(default=1e-4, ge=0)
    """L2 strength on the kernels of the layers."""


class WideAndDeep(RankModel):
    """Wide & Deep: memorises with weights of single ids, generalises with their embeddings.

        logit = sum_f w_f[x_f] + head(dnn([e_1, ..., e_F]))

    Use it as the first model on click data with many ids. Groups: `wide` (declared WIDE; crossed features belong here)
    and `deep`. With `final_dnn` the summed wide vectors and the deep layers enter further layers side by side.

    Source: Cheng et al. 2016, Wide & Deep Learning for Recommender Systems, section 3. Departures: one optimizer for
    all unless the pipeline names several (the paper trains the wide part with FTRL).
    """

    Config = WideAndDeepConfig

    @classmethod
    def expand(cls, config: ModelConfig) -> ModelConfig:
        """wide: sum over features. deep: DNN. Then their sum, or a final DNN over both."""
        options = message(config, cls)
        require_groups(config, "wide", "deep")
        width = options.wide_output_dim if options.final_dnn else config.num_class
        blocks = [
            block("wide", group("wide"), input_layer={"only_output_feature_list": True, "wide_output_dim": width}),
            block("wide_sum", output("wide"), layer=layer("Add")),
            block("deep_dnn", group("deep"), layer=layer("DNN", **options.dnn.model_dump())),
        ]
        if options.final_dnn:
            final = layer("DNN", **options.final_dnn.model_dump())
            blocks += [
                block("final_dnn", output("wide_sum"), output("deep_dnn"), layer=final),
                block("final", output("final_dnn"), layer=layer("Dense", units=config.num_class)),
            ]
        else:
            blocks += [
                block("deep_logit", output("deep_dnn"), layer=layer("Dense", units=config.num_class)),
                block(
                    "final",
                    output("wide_sum"),
                    output("deep_logit"),
                    merge_inputs_into_list=True,
                    layer=layer("Add"),
                ),
            ]
        return as_backbone(config, blocks, "final", options.l2_regularization)


MODEL = WideAndDeep
