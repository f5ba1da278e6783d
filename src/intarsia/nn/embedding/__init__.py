"""Embedding tables: named tables, fused into few weights, looked up for whole batches at once."""

from intarsia.nn.embedding.collection import EmbeddingCollection
from intarsia.nn.embedding.columns import concat_vectors
from intarsia.nn.embedding.spec import Lookup, Pooling, TableSpec

__all__ = ["EmbeddingCollection", "Lookup", "Pooling", "TableSpec", "concat_vectors"]
