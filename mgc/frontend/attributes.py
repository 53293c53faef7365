"""What must hold of a node's attributes and counts, whatever its op is."""

from __future__ import annotations

import math

import numpy as np
from onnx import AttributeProto

from mgc.frontend.budget import MAX_SIZE
from mgc.frontend.context import NodeView
from mgc.frontend.errors import ModelError
from mgc.frontend.functions import schema_of
from mgc.frontend.operand import Known
from mgc.ir.types import TensorType

_LIMITS = {"Constant": ("value_int", "value_ints"), "Slice": ("starts", "ends"), "Shape": ("start", "end")}
"""Attributes that may be larger than any size: data, and bounds that are cut."""
_ENDLESS = {"Constant": ("value_float", "value_floats"), "Clip": ("min", "max"), "Pad": ("value",)}
"""Attributes that may be infinite."""
_AXIS_ROOM = {"Flatten": (0, 1), "OneHot": (1, 1), "Unsqueeze": (1, 1)}
"""How far beyond those of the first operand an axis may lie, below and above."""
_AXIS_UNREAD = frozenset({"QuantizeLinear", "DequantizeLinear", "ConcatFromSequence", "SplitToSequence"})
"""Ops whose `axis` may be stated where nothing reads it, or is one of another operand."""


def check_attributes(view: NodeView) -> None:
    """ModelError for a number that is no size, pad, stride or axis of anything, and for one that is not finite."""
    for attribute in view.proto.attribute:
        name = attribute.name
        if attribute.type in (AttributeProto.INT, AttributeProto.INTS) and name not in _LIMITS.get(view.op_type, ()):
            for whole in (attribute.i, *attribute.ints):
                if abs(whole) > MAX_SIZE:
                    raise ModelError(f"attribute {name!r} is {whole}: at most 2^31 is meant", where=view.where)
        if attribute.type in (AttributeProto.FLOAT, AttributeProto.FLOATS):
            for real in (attribute.f, *attribute.floats):
                if not math.isfinite(real) and name not in _ENDLESS.get(view.op_type, ()):
                    raise ModelError(
                        f"attribute {name!r} is {real}", where=view.where, todo="train or export the model again"
                    )
        if name == "axis" and attribute.type == AttributeProto.INT and not view.domain:
            _check_axis(view, attribute.i)


def _check_axis(view: NodeView, axis: int) -> None:
    operand = view.inputs[0] if view.inputs else None
    if view.op_type in _AXIS_UNREAD or operand is None:
        return
    if isinstance(operand, Known):
        rank = np.ndim(operand.array) if isinstance(operand.array, np.ndarray) else -1
    else:
        rank = len(operand.value.shape) if isinstance(operand.value.type, TensorType) else -1
    below, above = _AXIS_ROOM.get(view.op_type, (0, 0))
    if rank >= 0 and not -max(rank, 1) - below <= axis < max(rank, 1) + above:
        raise ModelError(f"axis {axis} of rank {rank}", where=view.where, todo="export it again")


def check_counts(view: NodeView) -> None:
    """ModelError for a node with other numbers of operands or results than its op has."""
    schema = schema_of(view)
    if schema is None:
        return
    for what, count, least, most in (
        ("inputs", len(view.inputs), schema.min_input, schema.max_input),
        ("outputs", len(view.outputs), schema.min_output, schema.max_output),
    ):
        if not least <= count <= most:
            raise ModelError(
                f"it has {count} {what}, {view.op_type} has {least if least == most else f'{least} to {most}'}",
                where=view.where,
                todo="export the model again",
            )
