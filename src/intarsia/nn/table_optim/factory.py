"""Table optimizers by name, on plain torch or on FBGEMM."""

from __future__ import annotations

from collections.abc import Collection

from intarsia.core.errors import BuildError
from intarsia.nn.component import nearest
from intarsia.nn.component import options as checked_options
from intarsia.nn.embedding.fbgemm import FbgemmEngine, fbgemm_installed, fbgemm_problem
from intarsia.nn.table_optim.base import TableOptimizer, Target
from intarsia.nn.table_optim.gradients import Collections
from intarsia.nn.table_optim.rules import (
    LazyAdam,
    RowWiseAdagrad,
    SparseAdagrad,
    SparseFtrl,
    SparseMomentum,
    SparseRMSProp,
    SparseSGD,
)

TABLE_OPTIMIZERS: dict[str, type[TableOptimizer]] = {
    "sgd": SparseSGD,
    "momentum": SparseMomentum,
    "adagrad": SparseAdagrad,
    "rowwise_adagrad": RowWiseAdagrad,
    "adam": LazyAdam,
    "rms_prop": SparseRMSProp,
    "ftrl": SparseFtrl,
}

# Optimizers for which `auto` takes FBGEMM: where benchmarks/table_step.py finds it clearly faster on the CPU. None so
# far: plain torch needs half to three quarters of its time for sgd and adagrad. For rowwise_adagrad FBGEMM needs up to
# a fifth less, which is not worth its limit of one lookup and one backward pass for each step.
_FASTER_WITH_FBGEMM: frozenset[str] = frozenset()


def make_table_optimizer(
    collections: Collections,
    kind: str,
    *,
    lr: float,
    groups: Collection[str] | None = None,
    needs_gradients: bool = False,
    l2: float = 0.0,
    **options: float,
) -> TableOptimizer:
    """The optimizer of that name, on the backend that the collections ask for.

    Args:
        collections: One collection, or several whose tables have different names.
        kind: sgd, momentum, adagrad, rowwise_adagrad, adam, rms_prop or ftrl.
        lr: Learning rate.
        groups: Groups of tables to train (`TableSpec.group`). Default: all.
        needs_gradients: Whether anything looks at gradients between the backward pass and the step, or there is more
            than one backward pass for a step: clipping, accumulation, loss scaling. FBGEMM cannot do this.
        l2: Strength of L2 regularization of whole tables; see `TableOptimizer.regularize`. FBGEMM cannot do this.
        options: What the optimizer's class declares, such as `eps`.

    Raises:
        BuildError: Kind, option or group is unknown, l2 is negative, or the backend `fbgemm` cannot do what
            is asked.
    """
    if kind not in TABLE_OPTIMIZERS:
        raise BuildError(f"no table optimizer is called `{kind}`. {nearest(kind, TABLE_OPTIMIZERS)}")
    rule = TABLE_OPTIMIZERS[kind]
    optimizer = rule(collections, lr=lr, groups=groups, **checked_options(rule, options, kind))
    for target in optimizer.targets:
        if _wants_fbgemm(target, kind, needs_gradients, l2):
            _fuse(optimizer, target, kind)
    optimizer.regularize(l2)
    return optimizer


def _wants_fbgemm(target: Target, kind: str, needs_gradients: bool, l2: float) -> bool:
    backend = target.collection.backend
    if backend == "torch":
        return False
    if backend == "auto":
        return (
            kind in _FASTER_WITH_FBGEMM
            and not needs_gradients
            and l2 == 0
            and fbgemm_installed()
            and fbgemm_problem(dim=target.table.dim, kind=kind, device=target.weight.device) is None
        )
    if needs_gradients:
        raise BuildError(
            "FBGEMM updates tables in the backward pass, so gradients can be neither clipped nor accumulated. "
            "Received backend `fbgemm` with needs_gradients=True. Use backend `auto` or `torch`"
        )
    problem = fbgemm_problem(dim=target.table.dim, kind=kind, device=target.weight.device)
    if problem is not None:
        raise BuildError(f"backend `fbgemm`: {problem}")
    return True


def _fuse(optimizer: TableOptimizer, target: Target, kind: str) -> None:
    weight = target.weight
    engine = FbgemmEngine(weight, kind, lr=lambda: optimizer.lr, eps=float(getattr(optimizer, "eps", 0.0)))
    accumulators = engine.accumulators()
    if accumulators is not None:
        shape = weight.shape[:1] if optimizer.slot("sum").row_wise else weight.shape
        optimizer.adopt(target, {"sum": accumulators.view(shape)})
    target.collection.set_engine(target.table.name, engine)
