"""From vectors to recommendations: indexes, re-ranking for diversity, export of vectors."""

from intarsia.retrieval.index import Index, Measured, build_index, load_index

__all__ = ["Index", "Measured", "build_index", "load_index"]
