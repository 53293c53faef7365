"""The steps of VEC kernels as graph nodes, each only where it is equal to the ISA's function bit for bit.

Additions, products, quotients, square roots, comparisons, minima, maxima, roundings and choices of float32 are single
IEEE operations in ONNX Runtime as in NumPy; graph optimisations, which could fuse them, are off. Where kernels are free
to give either zero, nodes are added that settle its sign. What has no such form is refused and runs as the ISA's own
NumPy. In `float` numerics, which is compared by tolerance, more functions have a form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mgc.functions.binary import BINARY
from mgc.functions.unary import UNARY
from mgc.isa.dtypes import dtype_of_code
from mgc.isa.functions.base import Operand as Typed
from mgc.sim.fast import elementwise
from mgc.sim.fast.elementwise import Operand
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.values import Element, GraphValue

FLOAT = np.dtype(np.float32)
BOOL = np.dtype(np.bool_)


@dataclass(frozen=True)
class Call:
    """A step to lower: function name, operands, attributes, and its result's type and shape in this numerics.

    `clipped`: every use of the result is a QUANT whose lowest code is the code of 0, or above it. `ideal`: in `float`
    numerics. `guarded`: forms may be used that need a guard.
    """

    name: str
    args: Sequence[Operand]
    attributes: tuple[float, ...]
    result: Typed
    clipped: bool = False
    ideal: bool = False
    guarded: bool = False


Lowering = Callable[[GraphBuilder, Call], GraphValue]


def logical(operand: Operand) -> np.dtype:
    """The element type that the program sees."""
    return operand.logical if isinstance(operand, GraphValue) else operand.dtype


def limit(operand: Operand) -> float:
    """A bound on an operand's magnitudes, inf if there is none (or a NaN)."""
    if isinstance(operand, GraphValue):
        return operand.limit
    if operand.dtype.kind == "b" or operand.size == 0:
        return 1.0
    most = float(np.abs(operand.astype(np.float64)).max())
    return most if math.isfinite(most) else math.inf


def least(operand: Operand) -> float:
    """A lower bound of an operand's elements, -inf if none is known."""
    if isinstance(operand, GraphValue):
        return operand.least
    most = limit(operand)
    return float(operand.min()) if operand.size and math.isfinite(most) else -math.inf


def rounded_down(bound: float) -> float:
    """A lower bound, if positive, of the float32 rounding of something that is at least `bound`; else 0 or -inf."""
    return bound * (1 - 1e-6) if bound > 0 else (0.0 if bound == 0 else -math.inf)


def finite(bound: float) -> float:
    """A bound on the float32 rounding of something bounded; inf where it could overflow, or 0 meets infinity."""
    return bound * (1 + 1e-6) if bound < 3e38 else math.inf


def choose(g: GraphBuilder, condition: str, x: str, y: str, *, bounded: bool = False, signed: bool = True) -> str:
    """x where the condition holds, else y, float32; ONNX Runtime's Where is a hundred times slower than arithmetic, and
    makes +0 of a -0 that it chooses from its first operand.

    bounded: both are known to be finite: then max(min(x, m), min(y, -m)), m = inf where the condition holds, else -inf.
    signed: x may be -0. The two orders of Where then differ where one of them lost a -0, which -(-a + -b) keeps.
    """
    if bounded:
        half = g.node("Sub", g.cast(condition, FLOAT), g.constant(np.float32(0.5)))
        m, opposite = (g.node("Mul", half, g.constant(np.float32(s * np.inf))) for s in (1, -1))
        return g.node("Max", g.node("Min", x, m), g.node("Min", y, opposite))
    one = g.node("Where", condition, x, y)
    if not signed:
        return one
    other = g.node("Where", g.node("Not", condition), y, x)
    zero = g.node("Neg", g.node("Sub", g.node("Neg", one), other))
    return g.node("Where", g.node("Not", g.node("Equal", one, g.constant(np.float32(0)))), one, zero)


def in_program_type(g: GraphBuilder, operand: Operand, tensor: str) -> str:
    """A tensor of an operand's elements in the program's own type."""
    if not isinstance(operand, GraphValue) or operand.element == Element(operand.logical):
        return tensor
    if operand.element.bias:
        tensor = g.node("Sub", g.cast(tensor, np.int32), g.constant(np.int32(operand.element.bias)))
    return g.cast(tensor, operand.logical)


def pointwise(
    g: GraphBuilder, call: Call, make: Callable[[Sequence[str], list[int]], str], bound: float = math.inf
) -> GraphValue:
    """The element-wise result of `make` over the operands in the program's types."""

    def emit(tensors: Sequence[str], shape: list[int]) -> str:
        return make([in_program_type(g, o, t) for o, t in zip(call.args, tensors, strict=True)], shape)

    dtype = call.result.dtype
    value = elementwise.apply(g, call.args, call.result.shape, dtype, Element(dtype), emit)
    return replace(value, limit=bound)


def _expect(call: Call, *dtypes: np.dtype) -> None:
    for operand in call.args:
        if logical(operand) not in dtypes:
            raise NotLoweredError(f"{call.name} of {logical(operand)}")


def node(op: str, bound: Callable[..., float] | None = None, of: tuple[np.dtype, ...] = (FLOAT,)) -> Lowering:
    """A function that is one ONNX node. `bound` gives the result's bound from the operands'."""

    def lower(g: GraphBuilder, call: Call) -> GraphValue:
        _expect(call, *of)
        most = finite(bound(*map(limit, call.args))) if bound else math.inf
        return pointwise(g, call, lambda t, _: g.node(op, *t), most)

    return lower


def _same(*bounds: float) -> float:
    return max(bounds)


def _at_least(lowering: Lowering, bound: Callable[[Call], float]) -> Lowering:
    """The same with a lower bound of the result, from that of the operands."""

    def lower(g: GraphBuilder, call: Call) -> GraphValue:
        return replace(lowering(g, call), least=rounded_down(bound(call)))

    return lower


def _square(call: Call) -> float:
    return 0.0 if call.args[0] is call.args[1] and math.isfinite(limit(call.args[0])) else -math.inf


def _sum_of_least(call: Call) -> float:
    return least(call.args[0]) + least(call.args[1])


def _root_of_least(call: Call) -> float:
    return math.sqrt(max(0.0, least(call.args[0])))


def _extremum(op: str) -> Lowering:
    """Max or Min. Of two zeros kernels pick either; two numbers are zeros where the sum of their magnitudes is 0."""

    def settled(g: GraphBuilder, call: Call, tensors: Sequence[str]) -> str:
        constants = [a for a in call.args if isinstance(a, np.ndarray)]
        if any((a != 0).all() for a in constants):
            return g.node(op, *tensors)
        if any((a == 0).all() and not np.signbit(a).any() for a in constants):
            return g.positive_zero(g.node(op, *map(g.any_zero, tensors)))
        found, nought = g.node(op, *tensors), g.constant(np.float32(0))
        zeros = g.node("Equal", g.node("Add", *(g.node("Abs", t) for t in tensors)), nought)
        # x + -0 is x, and -0 + +0 is +0
        sign = g.node("Mul", g.node("Sub", g.cast(zeros, FLOAT), g.constant(np.float32(0.5))), nought)
        return g.node("Add", found, sign)

    def lower(g: GraphBuilder, call: Call) -> GraphValue:
        _expect(call, FLOAT)
        most, bounds = max(map(limit, call.args)), [least(a) for a in call.args]
        below = (max(bounds) if op == "Max" else min(bounds)) if math.isfinite(most) else -math.inf
        return replace(pointwise(g, call, lambda t, _: settled(g, call, t), most), least=below)

    return lower


def _add(g: GraphBuilder, call: Call) -> GraphValue:
    """Of either zero, a sum with a constant is the same, unless that is -0 somewhere."""
    _expect(call, FLOAT)
    settled = any(isinstance(a, np.ndarray) and not (np.signbit(a) & (a == 0)).any() for a in call.args)
    bound = finite(sum(map(limit, call.args)))
    return pointwise(g, call, lambda t, _: g.node("Add", *(map(g.any_zero, t) if settled else t)), bound)


def _root(g: GraphBuilder, call: Call) -> GraphValue:
    (x,) = call.args
    bound = finite(math.sqrt(limit(x))) if least(x) >= 0 else math.inf
    return replace(node("Sqrt")(g, call), limit=bound)


def _reciprocal(g: GraphBuilder, call: Call) -> GraphValue:
    below = least(call.args[0])
    return replace(node("Reciprocal")(g, call), limit=finite(1 / below) if below > 1e-37 else math.inf)


def _div(g: GraphBuilder, call: Call) -> GraphValue:
    below = least(call.args[1])
    return replace(node("Div")(g, call), limit=finite(limit(call.args[0]) / below) if below > 1e-37 else math.inf)


def _relu(g: GraphBuilder, call: Call) -> GraphValue:
    (x,) = call.args
    if call.clipped and isinstance(x, GraphValue) and x.logical == FLOAT:
        # x <= 0 becomes 0, whose code is the lowest, as is x's own: rounding and clipping are monotone
        return x
    return node("Relu", _same)(g, call)


def _leaky_relu(g: GraphBuilder, call: Call) -> GraphValue:
    _expect(call, FLOAT)
    alpha = float(np.float32(call.attributes[0]))
    bound = finite(limit(call.args[0]) * max(1.0, abs(alpha)))
    return pointwise(g, call, lambda t, _: g.node("LeakyRelu", t[0], alpha=alpha), bound)


def _scalar(g: GraphBuilder, value: float) -> str:
    return g.constant(np.float32(value))


def _thresholded_relu(g: GraphBuilder, call: Call) -> GraphValue:
    _expect(call, FLOAT)

    def make(t: Sequence[str], _: list[int]) -> str:
        over = g.node("Greater", t[0], _scalar(g, call.attributes[0]))
        return choose(g, over, t[0], _scalar(g, 0), signed=call.attributes[0] < 0)

    return pointwise(g, call, make, limit(call.args[0]))


def _clipped_line(g: GraphBuilder, x: str, alpha: float, beta: float) -> str:
    line = g.node("Add", g.node("Mul", _scalar(g, alpha), x), _scalar(g, beta))
    return g.positive_zero(g.node("Min", g.node("Max", line, _scalar(g, 0)), _scalar(g, 1)))


def _hard_sigmoid(g: GraphBuilder, call: Call) -> GraphValue:
    _expect(call, FLOAT)
    alpha, beta = call.attributes
    bound = 1.0 if math.isfinite(limit(call.args[0])) else math.inf
    return pointwise(g, call, lambda t, _: _clipped_line(g, t[0], alpha, beta), bound)


def _hard_swish(g: GraphBuilder, call: Call) -> GraphValue:
    _expect(call, FLOAT)

    def make(t: Sequence[str], _: list[int]) -> str:
        return g.node("Mul", t[0], _clipped_line(g, t[0], 1 / 6, 0.5))

    return pointwise(g, call, make, limit(call.args[0]))


def _prelu(g: GraphBuilder, call: Call) -> GraphValue:
    _expect(call, FLOAT)
    slope = call.args[1]
    # PRelu multiplies zeros too, which shows in their sign unless slopes are positive
    plain = isinstance(slope, np.ndarray) and bool((slope > 0).all())

    def make(t: Sequence[str], _: list[int]) -> str:
        if plain:
            return g.node("PRelu", *t)
        return choose(g, g.node("Less", t[0], _scalar(g, 0)), g.node("Mul", *t), t[0], bounded=bounded)

    x, s = map(limit, call.args)
    bounded = math.isfinite(finite(x * s))
    return pointwise(g, call, make, finite(x * max(1.0, s)))


def _cast(g: GraphBuilder, call: Call) -> GraphValue:
    (x,) = call.args
    target = dtype_of_code(call.attributes[0])
    if target != FLOAT or logical(x) not in (FLOAT, BOOL, *map(np.dtype, ("int32", "int64", "uint8", "int8"))):
        raise NotLoweredError(f"cast of {logical(x)} to {target}")
    return pointwise(g, call, lambda t, _: g.cast(t[0], FLOAT), finite(limit(x)))


def copy(g: GraphBuilder, call: Call) -> GraphValue:
    """The first operand itself."""
    x = call.args[0]
    if not isinstance(x, GraphValue):
        raise NotLoweredError(f"{call.name} of a constant")
    return x


def _gather(g: GraphBuilder, call: Call) -> GraphValue:
    from mgc.sim.fast import layout

    x, indices = call.args
    axis = int(call.attributes[0])
    if not isinstance(x, GraphValue) or not isinstance(indices, np.ndarray) or (x.batched and axis == 0):
        raise NotLoweredError("gather with computed indices or along the batch axis")
    extent = x.shape[axis]
    if indices.size == 0 or indices.min() < -extent or indices.max() >= extent:
        raise NotLoweredError("gather with no index, or one out of range")
    tensor = g.node("Gather", layout.dense(g, x), g.constant(indices.astype(np.int64)), axis=axis)
    return replace(x, shape=call.result.shape, dense=tensor, rows=None)


STEPS: Mapping[str, Lowering] = {
    **{
        f.name: node(f.onnx if isinstance(f.onnx, str) else f.onnx.op_type, of=(BOOL if f.domain == "bool" else FLOAT,))
        for f in (*UNARY.values(), *BINARY.values())
        if f.to_bool
    },
    "neg": node("Neg", _same),
    "abs": node("Abs", _same),
    "sqrt": _at_least(_root, _root_of_least),
    "reciprocal": _reciprocal,
    "sign": node("Sign"),
    "floor": node("Floor", lambda x: x + 1),
    "ceil": node("Ceil", lambda x: x + 1),
    "round": node("Round", lambda x: x + 1),
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "thresholded_relu": _thresholded_relu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
    "add": _at_least(_add, _sum_of_least),
    "sub": node("Sub", lambda x, y: x + y),
    "mul": _at_least(node("Mul", lambda x, y: x * y), _square),
    "div": _div,
    "max": _extremum("Max"),
    "min": _extremum("Min"),
    "prelu": _prelu,
    "cast": _cast,
    "copy": copy,
    "gather": _gather,
}
"""Functions whose graph form is the same in both numerics."""
