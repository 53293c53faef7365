"""Resize and Upsample: each axis becomes a Gather with known indices (nearest) or an AxisMap (linear, cubic)."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from mgc.frontend.context import Context, NodeView, Result
from mgc.frontend.errors import ModelError, Unsupported
from mgc.frontend.handlers.registry import handles
from mgc.frontend.resample import AxisScale, filter_matrix, nearest, ratio_of
from mgc.ir.graph import Value
from mgc.ir.ops import AxisMap, Cast, Gather, Where
from mgc.ir.types import DType


@handles("Upsample")
def upsample(ctx: Context, n: NodeView) -> Result:
    """Opsets 1, 7 and 9: asymmetric coordinates, nearest by floor."""
    x = ctx.value(n.operand(0))
    rank = x.tensor.rank
    if n.opset < 7:
        scales = [1.0] * (rank - 2) + [float(n.attr("height_scale")), float(n.attr("width_scale"))]
    elif n.opset < 9:
        scales = [float(s) for s in n.attr("scales")]
    else:
        scales = [float(s) for s in ctx.known(n.operand(1), "scales")]
    if len(scales) != rank:
        raise ModelError(f"{len(scales)} scales for X {x.type}", where=n.where)
    axes = [(a, _axis_scale(n, d, s)) for a, (d, s) in enumerate(zip(x.shape, scales, strict=True))]
    kind = {"nearest": "nearest", "linear": "linear", "bilinear": "linear"}.get(n.attr("mode", "nearest"))
    if kind is None:
        raise ModelError(f"mode {n.attr('mode')!r} is not one of ONNX's", where=n.where)
    return _resample(ctx, n, x, axes, kind, "asymmetric", "floor")


def _axis_scale(n: NodeView, size: int, scale: float) -> AxisScale:
    if not (scale > 0 and math.isfinite(scale)):
        raise ModelError(f"scale {scale}", where=n.where, todo="scales must be positive")
    out = math.floor(np.float32(size) * np.float32(scale))  # as ONNX Runtime rounds: 19 * (27 / 19) gives 26
    return AxisScale(size, out, ratio_of(scale))


@handles("Resize")
def resize(ctx: Context, n: NodeView) -> Result:
    """Opset 10 (asymmetric, floor) and 11 on, with every attribute."""
    x = ctx.value(n.operand(0))
    kind = str(n.attr("mode", "nearest"))
    if kind not in ("nearest", "linear", "cubic"):
        raise ModelError(f"mode {kind!r} is not one of ONNX's", where=n.where)
    if n.opset < 11:
        scales = [float(s) for s in ctx.known(n.operand(1), "scales")]
        if len(scales) != x.tensor.rank:
            raise ModelError(f"{len(scales)} scales for X {x.type}", where=n.where)
        axes = [(a, _axis_scale(n, d, s)) for a, (d, s) in enumerate(zip(x.shape, scales, strict=True))]
        return _resample(ctx, n, x, axes, kind, "asymmetric", "floor")
    coordinates = str(n.attr("coordinate_transformation_mode", "half_pixel"))
    axes = _axes(ctx, n, x)
    if coordinates == "align_corners" and any(s.scale * s.size != s.out for _, s in axes):
        # PyTorch writes scales where it means the sizes they give; ONNX's test data mean the scales
        if ctx.producer == "pytorch":
            axes = [(a, replace(s, scale=Fraction(s.out, s.size))) for a, s in axes]
        else:
            ctx.warnings.append(
                f"{n.where}: align_corners with scales that give no whole sizes: ONNX's definition is followed, "
                "from which ONNX Runtime departs"
            )
    return _resample(ctx, n, x, axes, kind, coordinates, str(n.attr("nearest_mode", "round_prefer_floor")))


def _axes(ctx: Context, n: NodeView, x: Value) -> list[tuple[int, AxisScale]]:
    """The resized axes with their scales, from `scales` or `sizes`."""
    rank = x.tensor.rank
    axes = [int(a) % max(rank, 1) for a in n.attr("axes", None) or range(rank)]
    given = n.optional(2)
    scales = [] if given is None else [float(s) for s in ctx.known(given, "scales").reshape(-1)]
    sizes = [int(s) for s in ctx.ints(n.optional(3), "sizes") or []]
    if bool(scales) == bool(sizes) or len(scales or sizes) != len(axes):
        raise ModelError(f"scales {scales} and sizes {sizes} for axes {axes} of X {x.type}", where=n.where)
    roi = [(Fraction(0), Fraction(1))] * len(axes)
    if n.attr("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        corners = [Fraction(float(r)) for r in ctx.known(n.operand(1), "roi").reshape(-1)]
        if len(corners) != 2 * len(axes):
            raise ModelError(f"roi has {len(corners)} numbers for {len(axes)} axes", where=n.where)
        roi = list(zip(corners[: len(axes)], corners[len(axes) :], strict=True))
    found: list[tuple[int, AxisScale]] = []
    if scales:
        for axis, scale, bounds in zip(axes, scales, roi, strict=True):
            scaled = _axis_scale(n, x.shape[axis], scale)
            if n.attr("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
                out = math.floor(x.shape[axis] * (bounds[1] - bounds[0]) * scaled.scale)
                if out != scaled.out:
                    ctx.warnings.append(
                        f"{n.where}: the result has {out} positions on axis {axis}, as ONNX defines it: what roi cuts "
                        f"out times the scale {scale:g}; ONNX Runtime makes {scaled.out}, all of the input times it"
                    )
                scaled = AxisScale(scaled.size, out, scaled.scale)
            found.append((axis, AxisScale(scaled.size, scaled.out, scaled.scale, bounds)))
        return found
    policy = n.attr("keep_aspect_ratio_policy", "stretch")
    ratios = [Fraction(s, x.shape[a]) for s, a in zip(sizes, axes, strict=True)]
    if policy != "stretch":
        common = min(ratios) if policy == "not_larger" else max(ratios)
        ratios = [common] * len(axes)
        sizes = [math.floor(common * x.shape[a] + Fraction(1, 2)) for a in axes]
    return [
        (axis, AxisScale(x.shape[axis], size, ratio, bounds))
        for axis, size, ratio, bounds in zip(axes, sizes, ratios, roi, strict=True)
    ]


def _resample(
    ctx: Context, n: NodeView, x: Value, axes: list[tuple[int, AxisScale]], kind: str, coordinates: str, rule: str
) -> Value:
    """Axis after axis; what lies outside the input in any of them becomes the extrapolation value at the end."""
    dtype = x.tensor.dtype
    if any(scale.out < 1 for _, scale in axes):
        raise Unsupported("the result is empty")
    for _, scale in axes:
        ctx.room(scale.out, 1 if kind == "nearest" else scale.size)
    y = x if kind == "nearest" or dtype.is_float else ctx.emit(Cast(DType.F32), x)
    crops = coordinates == "tf_crop_and_resize"
    for axis, scale in axes:
        if scale.out == scale.size and scale.scale == 1 and not crops:
            continue
        if kind == "nearest":
            y = ctx.emit(Gather(axis), y, ctx.const(nearest(scale, coordinates, rule), DType.I64))
        else:
            matrix = filter_matrix(
                scale,
                coordinates,
                kind,
                cubic_a=float(n.attr("cubic_coeff_a", -0.75)),
                antialias=bool(n.attr("antialias", 0)),
                exclude=bool(n.attr("exclude_outside", 0)),
            )
            y = ctx.emit(AxisMap(axis), y, ctx.const(matrix))
    if crops:
        mask = np.zeros((1,) * y.tensor.rank, bool)
        for axis, scale in axes:
            mask = mask | scale.outside(coordinates).reshape([-1 if a == axis else 1 for a in range(y.tensor.rank)])
        if mask.any():
            fill = ctx.like(float(n.attr("extrapolation_value", 0.0)), y)
            y = ctx.emit(Where(), ctx.const(mask, DType.BOOL), fill, y)
    return y if y.tensor.dtype is dtype else ctx.emit(Cast(dtype), y)
