"""Level-2 vector ops as steps of VEC kernels: function name and attributes, as `mgc.isa.functions` defines them."""

from __future__ import annotations

from mgc.ir import mapped, ops
from mgc.ir.op import Op
from mgc.isa.dtypes import CODES
from mgc.isa.functions import function_code


def function_of(op: Op) -> tuple[str, tuple[float, ...]]:
    """The VEC function and its attributes for one level-1 or level-2 op. TypeError for an op that is no vector work."""
    match op:
        case ops.Unary(fn, alpha, beta):
            return fn, (alpha, beta)
        case ops.Binary(fn):
            return fn, ()
        case ops.Where():
            return "where", ()
        case ops.Cast(to):
            return "cast", (float(CODES[to.numpy.name]),)
        case ops.Reduce(fn, axes, keepdims):
            return f"reduce_{fn}", (float(keepdims), *map(float, axes))
        case ops.Gather(axis):
            return "gather", (float(axis),)
        case ops.AxisMap(axis):
            return "axis_map", (float(axis),)
        case ops.MatMul():
            return "matmul", ()
        case ops.Pool():
            window = (*op.kernel, *op.strides, *op.pads, *op.dilations, int(op.count_include_pad))
            return f"pool_{op.kind}", (float(len(op.kernel)), *map(float, window))
        case mapped.Quant(scale, lo, hi, to):
            return "quant", (scale, float(lo), float(hi), float(CODES[to.numpy.name]))
        case mapped.Dequant():
            return "dequant", ()
        case mapped.Lookup(fn, alpha, beta, lo, step):
            return "lookup", (float(function_code(fn)), alpha, beta, lo, step)
    raise TypeError(f"{op.name} is no work for a vector unit: the plan has to lower it first")
