"""Optimizers for embedding tables: a step costs what the rows of the batch cost, however many rows there are."""

from intarsia.nn.table_optim.base import TableOptimizer
from intarsia.nn.table_optim.factory import TABLE_OPTIMIZERS, make_table_optimizer
from intarsia.nn.table_optim.gradients import scale_table_grads, table_grad_norm_sq
from intarsia.nn.table_optim.rules import (
    LazyAdam,
    RowWiseAdagrad,
    SparseAdagrad,
    SparseFtrl,
    SparseMomentum,
    SparseRMSProp,
    SparseSGD,
)

__all__ = [
    "TABLE_OPTIMIZERS",
    "LazyAdam",
    "RowWiseAdagrad",
    "SparseAdagrad",
    "SparseFtrl",
    "SparseMomentum",
    "SparseRMSProp",
    "SparseSGD",
    "TableOptimizer",
    "make_table_optimizer",
    "scale_table_grads",
    "table_grad_norm_sq",
]
