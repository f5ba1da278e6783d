"""Features: how raw columns become the columns of a batch, one module for each kind."""

from intarsia.data.features.checks import check_features, expand_shared
from intarsia.data.features.encoder import FeatureEncoder

__all__ = ["FeatureEncoder", "check_features", "expand_shared"]
