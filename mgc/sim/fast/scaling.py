"""Whether a VEC step means the same for k micro-batches along axis 0 as for each of them alone."""

from __future__ import annotations

from collections.abc import Sequence

from mgc.sim.fast.graph import NotLoweredError
from mgc.sim.fast.values import GraphValue

_RANDOM = ("random_uniform", "random_normal")
_REDUCE = ("reduce_sum", "reduce_mean", "reduce_max", "reduce_min", "reduce_prod", "reduce_variance")


def check_scaling(operands: Sequence[object], shape: tuple[int, ...]) -> bool:
    """Whether any operand differs between micro-batches; NotLoweredError where k of them do not broadcast as one does.

    k micro-batches broadcast as one does if every batched operand spans axis 0 of the result, and no other does.
    Operands are values, or constants.
    """
    batched = [o for o in operands if isinstance(o, GraphValue) and o.batched]
    if not batched:
        return False
    for o in operands:
        own: tuple[int, ...] = o.shape  # type: ignore[attr-defined]
        same_rank = len(own) == len(shape)
        if isinstance(o, GraphValue) and o.batched:
            if not (same_rank and shape and own[0] == shape[0]):
                raise NotLoweredError("an operand does not span the batch axis")
        elif same_rank and own[:1] != (1,):
            raise NotLoweredError("an operand that all micro-batches share spans the batch axis")
    return True


def check_step(name: str, operands: Sequence[object], attributes: Sequence[float], shape: tuple[int, ...]) -> bool:
    """`check_scaling` for the step of any function; `shape` is that of its result for one micro-batch."""
    first, *others = operands
    other_batched = any(isinstance(o, GraphValue) and o.batched for o in others)
    first_batched = isinstance(first, GraphValue) and first.batched
    if not first_batched and not other_batched:
        return False
    if name in _REDUCE and 0 not in attributes[1:]:
        return True
    if name in ("pool_max", "pool_average") or (name in _RANDOM and attributes[1]):
        return True
    if name in ("gather", "axis_map", "lookup") and not other_batched:
        if name == "lookup" or attributes[0] != 0:
            return True
    elif name == "matmul":
        return _check_matmul(operands, shape)
    elif name not in (*_REDUCE, "run_max", "gather", "axis_map", "lookup", "reshape", *_RANDOM):
        return check_scaling(operands, shape)
    raise NotLoweredError(f"{name} mixes micro-batches, or does not lay them along axis 0")


def _check_matmul(operands: Sequence[object], shape: tuple[int, ...]) -> bool:
    """Axis 0 of the product is a stack axis, or the rows of a matrix on the left."""
    a, b = operands
    a_shape, b_shape = a.shape, b.shape  # type: ignore[attr-defined]
    if len(shape) >= 3 and len(b_shape) != 1:  # stack axes: as an element-wise operation has them
        return check_scaling(operands, shape)
    alone = isinstance(a, GraphValue) and a.batched and not (isinstance(b, GraphValue) and b.batched)
    if alone and len(a_shape) >= 2 and len(b_shape) <= 2:
        return True
    raise NotLoweredError("matmul mixes micro-batches, or does not lay them along axis 0")
