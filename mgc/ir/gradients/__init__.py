"""Gradients: of each level-1 op the rule that builds its operands' cotangents, found by the op's class."""

from mgc.ir.gradients import diff_block, elementwise, linear, pool, reduce, shape, update
from mgc.ir.gradients.rules import GRADIENTS, decompose, decomposes, vjp

__all__ = [
    "GRADIENTS",
    "decompose",
    "decomposes",
    "diff_block",
    "elementwise",
    "linear",
    "pool",
    "reduce",
    "shape",
    "update",
    "vjp",
]
