"""Level-2 vector ops as steps of VEC kernels: function name and attributes, as `mgc.isa.functions` defines them."""

from __future__ import annotations

from mgc.ir import mapped, mapped_training, ops
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
            return f"pool_{op.kind}", _windows(op, op.count_include_pad)
        case mapped.Quant(scale, lo, hi, to, zero):
            return "quant", (scale, float(lo), float(hi), float(CODES[to.numpy.name]), float(zero))
        case mapped.Dequant():
            return "dequant", ()
        case mapped_training.QuantBy(lo, hi, to, dithered):
            return "quant_dithered" if dithered else "quant_by", (float(lo), float(hi), float(CODES[to.numpy.name]))
        case mapped_training.DequantBy(factor):
            return "dequant_by", (factor,)
        case mapped_training.RunMax(runs):
            return "run_max", (float(runs),)
        case ops.AveragePoolGrad():
            return "pool_average_grad", (*_windows(op, op.count_include_pad), *map(float, op.spatial))
        case ops.MaxPoolGrad():
            return "pool_max_grad", _windows(op, False)
        case ops.MaxPoolPick():
            return "pool_max_pick", _windows(op, False)
        case ops.ScatterAdd(axis, size):
            return "scatter_add", (float(axis), float(size))
        case mapped.Lookup(fn, alpha, beta, lo, step):
            return "lookup", (float(function_code(fn)), alpha, beta, lo, step)
    raise TypeError(f"{op.name} is no work for a vector unit: the plan has to lower it first")


def _windows(
    op: ops.Pool | ops.AveragePoolGrad | ops.MaxPoolGrad | ops.MaxPoolPick, count_include_pad: bool
) -> tuple[float, ...]:
    """The attributes that all functions of pooling have."""
    window = (*op.kernel, *op.strides, *op.pads, *op.dilations, int(count_include_pad))
    return (float(len(op.kernel)), *map(float, window))
