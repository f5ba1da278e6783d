"""`index`: how the vectors of a catalogue are searched."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from intarsia.core.params import StrictModel


class IndexConfig(StrictModel):
    """How the vectors of a catalogue are searched. A bare word such as `hnsw` will do. Not in EasyRec.

    `flat` and `faiss_flat` are exact. The recall of the other kinds against exact search is measured when the index is
    built, and saved with it.
    """

    kind: Literal["flat", "faiss_flat", "ivf", "hnsw", "pq", "ivf_pq"] = "flat"
    """`flat`: every item is scored; `faiss_flat`: the same by FAISS; `ivf`: the lists of items nearest to the query;
    `hnsw`: a walk through a graph of neighbours; `pq`: every item, by compressed vectors; `ivf_pq`: lists of compressed
    vectors."""
    metric: Literal["inner_product", "cosine", "euclidean"] = "inner_product"
    """Score of an item: inner product, cosine, or minus the squared distance."""
    nlist: int | None = Field(default=None, ge=1)
    """ivf: number of lists. Default: 4 sqrt(N), at most N / 39."""
    nprobe: int | None = Field(default=None, ge=1)
    """ivf: lists that a query searches. Default: 64, or all where there are fewer."""
    m: int = Field(default=32, ge=2)
    """hnsw: neighbours that an item is linked to."""
    ef_construction: int = Field(default=100, ge=1)
    """hnsw: items at hand while a new one is linked. More: slower to build, better recall."""
    ef_search: int = Field(default=128, ge=1)
    """hnsw: items at hand while a query walks. More: slower, better recall."""
    pq_m: int | None = Field(default=None, ge=1)
    """pq: parts that a vector is cut into; divides D. Default: the divisor of D that is nearest to D / 4."""
    bits: int = Field(default=8, ge=4, le=8)
    """pq: bits of a part. A part is one of 2^bits typical ones, so N is at least 2^bits."""
    measure_queries: int = Field(default=1000, ge=0)
    """Queries that recall and time are measured with; 0: neither is measured."""
    build_threads: int = Field(default=1, ge=1)
    """Threads that build the index. With more than one a graph (hnsw) is built faster, and differs each time."""
    seed: int = 0
    """Seed of what is learned (lists, parts) and of the queries of the measurement."""

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, data: Any) -> Any:
        return {"kind": data} if isinstance(data, str) else data
