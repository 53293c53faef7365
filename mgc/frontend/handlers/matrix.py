"""Matrix products."""

from __future__ import annotations

from string import ascii_letters

import numpy as np

from mgc.frontend.context import Context, NodeView, Operand, Result
from mgc.frontend.errors import ModelError, Unsupported
from mgc.frontend.handlers.registry import handles
from mgc.frontend.operand import Known
from mgc.ir.graph import Value
from mgc.ir.ops import MatMul


@handles("MatMul")
def matmul(ctx: Context, n: NodeView) -> Result:
    """numpy.matmul."""
    return ctx.emit(MatMul(), ctx.value(n.operand(0)), ctx.value(n.operand(1)))


def _factor(ctx: Context, operand: Operand, factor: float) -> tuple[Operand | Value, bool]:
    """The operand times a number, and whether that is done: a constant at once unless it is a parameter to keep."""
    if isinstance(operand, Known) and factor != 1 and not (ctx.keep_parameters and operand.is_parameter):
        scaled = (operand.array * operand.array.dtype.type(factor)).astype(operand.array.dtype)
        return Known(scaled, hint=operand.hint or operand.name), True
    return operand, factor == 1


@handles("Gemm")
def gemm(ctx: Context, n: NodeView) -> Result:
    """alpha A' B' + beta C; what is constant is transposed and scaled at once."""
    a, b, c = n.operand(0), n.operand(1), n.optional(2)
    for what, operand in (("A", a), ("B", b)):
        if len(ctx.shape_of(operand)) != 2:
            raise ModelError(f"{what} has shape {list(ctx.shape_of(operand))}: a matrix is needed", where=n.where)
    scaled, done = _factor(ctx, b, float(n.attr("alpha", 1.0)))
    left = ctx.transpose(a, (1, 0)) if n.attr("transA", 0) else ctx.value(a)
    right = ctx.transpose(scaled, (1, 0)) if n.attr("transB", 0) else ctx.value(scaled)
    y = ctx.emit(MatMul(), left, right)
    if not done:
        y = ctx.binary("mul", y, float(n.attr("alpha", 1.0)))
    beta = float(n.attr("beta", 1.0))
    if c is None or beta == 0:
        return y
    term, done = _factor(ctx, c, beta)
    bias = ctx.value(term)
    if np.broadcast_shapes(bias.shape, y.shape) != y.shape:
        raise ModelError(f"C is {bias.type}, which does not broadcast to the product {y.type}", where=n.where)
    return ctx.binary("add", y, bias if done else ctx.binary("mul", bias, beta))


def _spelled_out(equation: str, ranks: list[int]) -> str:
    """The equation with "..." replaced by letters, the same ones in every term, aligned at the right."""
    if "..." not in equation:
        return equation
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    free = [c for c in ascii_letters if c not in equation]
    hidden = [rank - len(t.replace("...", "")) for t, rank in zip(terms, ranks, strict=True)]
    most = max(h for h, t in zip(hidden, terms, strict=True) if "..." in t)
    letters = "".join(free[:most])
    spelled = [t.replace("...", letters[most - h :]) for t, h in zip(terms, hidden, strict=True)]
    if arrow:
        return ",".join(spelled) + "->" + out.replace("...", letters)
    once = sorted(c for c in set(left) if c.isalpha() and left.count(c) == 1)
    return ",".join(spelled) + "->" + letters + "".join(once)


@handles("Einsum")
def einsum(ctx: Context, n: NodeView) -> Result:
    """Sums of products of one or two operands, by transposes and one matrix product."""
    equation = str(n.attr("equation")).replace(" ", "")
    equation = _spelled_out(equation, [len(ctx.shape_of(n.operand(i))) for i in range(len(n.inputs))])
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    if not arrow:
        letters = left.replace(",", "")
        out = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    if len(terms) != len(n.inputs) or len(terms) > 2 or any(len(set(t)) != len(t) for t in (*terms, out)):
        raise Unsupported("more than two operands, or an index repeated in one term")
    values = [ctx.value(n.operand(i)) for i in range(len(terms))]
    if any(v.tensor.rank != len(t) for v, t in zip(values, terms, strict=True)):
        raise ModelError(f"equation {equation!r} does not fit ranks {[v.tensor.rank for v in values]}", where=n.where)
    for i, term in enumerate(terms):
        others = "".join(t for j, t in enumerate(terms) if j != i) + out
        gone = [a for a, c in enumerate(term) if c not in others]
        if gone:
            values[i] = ctx.reduce("sum", values[i], gone, keepdims=False)
            terms[i] = "".join(c for c in term if c in others)
    if len(terms) == 1:
        return ctx.transpose(values[0], [terms[0].index(c) for c in out])
    (p, q), (a, b) = terms, values
    size = dict(zip(p + q, a.shape + b.shape, strict=True))
    if any(size[c] != d for c, d in zip(p + q, a.shape + b.shape, strict=True)):
        raise Unsupported("an index has two sizes")
    batch = [c for c in p if c in q and c in out]
    inner = [c for c in p if c in q and c not in out]
    rows, columns = [c for c in p if c not in q], [c for c in q if c not in p]

    def as_matrices(value: Value, term: str, *groups: list[str]) -> Value:
        value = ctx.transpose(value, [term.index(c) for g in groups for c in g])
        stack = [size[c] for c in groups[0]]
        return ctx.reshape(value, [*stack, *(int(np.prod([size[c] for c in g], dtype=np.int64)) for g in groups[1:])])

    y = ctx.emit(MatMul(), as_matrices(a, p, batch, rows, inner), as_matrices(b, q, batch, inner, columns))
    order = [*batch, *rows, *columns]
    y = ctx.reshape(y, [size[c] for c in order])
    return ctx.transpose(y, [order.index(c) for c in out])


@handles("DFT")
def dft(ctx: Context, n: NodeView) -> Result:
    """A discrete Fourier transform of known length: a matrix product by cosines and sines."""
    x = ctx.value(n.operand(0))
    rank = x.tensor.rank
    axis = int(n.attr("axis", 1)) if n.opset < 20 else (ctx.ints(n.optional(2), "axis") or [-2])[0]
    axis %= rank
    inverse, onesided = bool(n.attr("inverse", 0)), bool(n.attr("onesided", 0))
    count, parts = x.shape[axis], x.shape[-1]
    if axis == rank - 1 or parts not in (1, 2):
        raise ModelError(f"X is {x.type}: its last axis holds real and imaginary parts", where=n.where)
    half = onesided and inverse
    length = (ctx.ints(n.optional(1), "dft_length") or [2 * (count - 1) if half else count])[0]
    if length < 1:
        raise ModelError(f"a transform of length {length}", where=n.where)
    made = length // 2 + 1 if onesided and not inverse else length
    kept = min(count, length // 2 + 1 if half else length)
    ctx.room(count * parts, made * 2)
    matrix = _dft_matrix(length, kept, made, inverse=inverse, half=half)
    table = np.zeros((count, 2, made, 2))
    table[:kept] = matrix[:kept]
    out = 1 if half else 2
    table = table[:, :parts, :, :out].reshape(count * parts, made * out)
    others = [a for a in range(rank - 1) if a != axis]
    order = [*others, axis, rank - 1]
    rows = ctx.transpose(x, order)
    y = ctx.emit(MatMul(), ctx.reshape(rows, (*rows.shape[:-2], count * parts)), ctx.const(table))
    y = ctx.reshape(y, (*y.shape[:-1], made, out))
    return ctx.transpose(y, [order.index(a) for a in range(rank)])


def _dft_matrix(length: int, kept: int, made: int, *, inverse: bool, half: bool) -> np.ndarray:
    """[kept, real or imaginary, made, real or imaginary]: by how much each part of an input adds to each of a result.

    half: the inputs are the first half of a spectrum whose other half are its conjugates.
    """
    turns = np.outer(np.arange(kept), np.arange(made)) % length * (2 * np.pi / length)
    sign = 1.0 if inverse else -1.0
    c, s = np.cos(turns), sign * np.sin(turns)
    matrix = np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)], 1)
    if half:
        k = np.arange(kept)
        matrix *= np.where((k == 0) | (2 * k == length), 1.0, 2.0)[:, None, None, None]
    return matrix / length if inverse else matrix
