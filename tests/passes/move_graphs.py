"""Random level-1 graphs of data movement and element-wise work, for property tests."""

import hypothesis.strategies as st
import numpy as np

from mgc.ir import ops
from mgc.ir.graph import Graph, Value
from mgc.ir.mapped import Quant
from mgc.ir.types import DType, TensorType


@st.composite
def shapes(draw, least=0):
    return tuple(draw(st.lists(st.integers(1, 4), min_size=max(least, 1), max_size=4)))


def reshapes(draw, x: Value) -> tuple[int, ...]:
    """Another shape of the same size: prime factors dealt into axes."""
    factors: list[int] = []
    n = x.tensor.size
    for p in (2, 3, 5, 7):
        while n and n % p == 0:
            factors.append(p)
            n //= p
    axes = [1] * draw(st.integers(1, 4))
    for f in draw(st.permutations(factors)):
        axes[draw(st.integers(0, len(axes) - 1))] *= f
    axes[0] *= max(n, 1)
    return tuple(axes)


def move(draw, g: Graph, x: Value, pool: list[Value]) -> Value:
    """Adds one random op on x."""
    rank = len(x.shape)
    kinds = ["reshape", "transpose", "slice", "expand", "concat", "pad", "gather", "unary", "binary", "quant"]
    kind = draw(st.sampled_from(kinds))
    source = [f"{kind}_{len(g.nodes)}"]
    match kind:
        case "reshape":
            return g.add(ops.Reshape(reshapes(draw, x)), x, sources=source)
        case "transpose":
            return g.add(ops.Transpose(tuple(draw(st.permutations(range(rank))))), x, sources=source)
        case "slice":
            bounds = []
            for n in x.shape:
                a, b = sorted(draw(st.tuples(st.integers(0, n - 1), st.integers(1, n))))
                a, b = (a, b) if a < b else (b - 1, b)
                step = draw(st.sampled_from([1, 1, 2, -1, -2]))
                bounds.append((a, b, step) if step > 0 else (b - 1, a - 1, step))
            return g.add(ops.Slice(*map(tuple, zip(*bounds, strict=True))), x, sources=source)
        case "expand":
            lead = draw(st.lists(st.integers(1, 2), max_size=4 - rank)) if rank < 4 else []
            return g.add(
                ops.Expand((*lead, *(draw(st.integers(1, 3)) if d == 1 else d for d in x.shape))), x, sources=source
            )
        case "concat":
            axis = draw(st.integers(0, rank - 1))
            fits = [
                v
                for v in pool
                if len(v.shape) == rank
                and v.tensor.dtype == x.tensor.dtype
                and all(a == axis or d == e for a, (d, e) in enumerate(zip(v.shape, x.shape, strict=True)))
            ]
            others = draw(st.lists(st.sampled_from(fits), max_size=2)) if fits else []
            return g.add(ops.Concat(axis), *draw(st.permutations([x, *others])), sources=source)
        case "pad":
            mode = draw(st.sampled_from(ops.shape.PAD_MODES))
            pads = tuple(draw(st.lists(st.integers(0, 5), min_size=2 * rank, max_size=2 * rank)))
            if mode == "reflect":
                pads = tuple(p if x.shape[k % rank] > 1 else 0 for k, p in enumerate(pads))
            return g.add(ops.Pad(pads, mode, draw(st.sampled_from([0.0, 1.0]))), x, sources=source)
        case "gather":
            axis = draw(st.integers(0, rank - 1))
            n = x.shape[axis]
            index = draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=6))
            if draw(st.booleans()):
                index = sorted(abs(i) for i in index if i < n) or [0]
                index = [min(i, n - 1) for i in index]
            data = np.array(draw(st.sampled_from([index, index[0], [index]])), np.int64)
            if rank - 1 + data.ndim == 0 or rank - 1 + data.ndim > 4:
                return x
            return g.add(ops.Gather(axis), x, g.add_constant(data), sources=source)
        case "unary":
            fn = draw(st.sampled_from(["relu", "neg", "abs"]))
            return g.add(ops.Unary(fn), x, sources=source) if x.tensor.dtype is DType.F32 else x
        case "binary":
            fits = [v for v in pool if v.type == x.type]
            return g.add(ops.Binary("add"), x, draw(st.sampled_from(fits)), sources=source) if fits else x
        case "quant":
            if x.tensor.dtype is not DType.F32:
                return x
            return g.add(Quant(draw(st.sampled_from([0.05, 0.1])), -128, 127, DType.I8), x, sources=source)
    raise AssertionError(kind)


@st.composite
def move_graphs(draw, most=8):
    """A graph and its feeds; results under 1000 elements."""
    g = Graph()
    pool = [g.add_input(f"x{k}", TensorType(DType.F32, draw(shapes()))) for k in range(draw(st.integers(1, 2)))]
    if draw(st.booleans()):
        pool.append(g.add_constant(np.arange(6, dtype=np.float32).reshape(2, 3)))
    for _ in range(draw(st.integers(1, most))):
        value = move(draw, g, draw(st.sampled_from(pool)), pool)
        if value.tensor.size <= 1000:
            pool.append(value)
    chosen = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3))
    g.outputs = [(f"o{k}", v) for k, v in enumerate([pool[-1], *chosen])]
    g.prune()
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return g, {v.name: rng.normal(size=v.shape).astype(np.float32) for v in g.inputs}
