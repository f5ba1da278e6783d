"""intarsia: recommender systems assembled from pieces.

    import intarsia

    rec = intarsia.fit("DeepFM", data="ml-100k")
    rec.recommend(users=[196], k=10)

Everything heavy is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from intarsia.recommender.fit import fit
    from intarsia.recommender.pipeline import load_pipeline
    from intarsia.recommender.recommender import Recommender

__all__ = ["Recommender", "__version__", "fit", "load_pipeline"]

_HOMES = {
    "Recommender": "intarsia.recommender.recommender",
    "fit": "intarsia.recommender.fit",
    "load_pipeline": "intarsia.recommender.pipeline",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'intarsia' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
