"""Level-2 ops: the dataflow over crossbar groups and the vector unit.

Lowering goes in steps, each of which leaves a graph that `evaluate` can run, so that any step can be checked:
`lower-conv` makes `Mvm` on real values, `quantize` puts codes and integer weights in (`Quant`, `Dequant`, `Lookup`),
`lower-moves` makes `Copy`, `lower-vec` fuses element-wise work into `Vec` kernels.
"""

from mgc.functions.windows import Layout, Windows
from mgc.ir.mapped.codes import Dequant, DequantBy, Lookup, Quant, QuantBy, RunMax
from mgc.ir.mapped.crossbars import CHANNEL_MAJOR, TAP_MAJOR, Mvm, MvmPart, MvmT, Outer, UpdateCells, product_axes
from mgc.ir.mapped.kernels import Step, Vec
from mgc.ir.mapped.moves import Copy, Piece, Send, View

__all__ = [
    "CHANNEL_MAJOR",
    "TAP_MAJOR",
    "Copy",
    "Dequant",
    "DequantBy",
    "Layout",
    "Lookup",
    "Mvm",
    "MvmPart",
    "MvmT",
    "Outer",
    "Piece",
    "Quant",
    "QuantBy",
    "RunMax",
    "Send",
    "Step",
    "UpdateCells",
    "Vec",
    "View",
    "Windows",
    "product_axes",
]
