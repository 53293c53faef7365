"""Compares gradient rules with central differences, in float64, first and second derivatives."""

from collections.abc import Sequence

import numpy as np
from op_checks import run_ort

from mgc.ir.graph import Graph, Value, evaluate
from mgc.ir.op import Op
from mgc.ir.text import parse_graph, print_graph
from mgc.ir.types import tensor_type_of
from mgc.ir.verifier import verify
from mgc.passes.training.differentiate import gradients

STEP = 1e-5


def gradient_graph(op: Op, arrays: Sequence[np.ndarray], wrt: Sequence[int]) -> Graph:
    """x0, x1, ..., r (random weights of the result) -> loss = sum(r op(x)) and its gradients g0, g1, ..."""
    from mgc.ir.build import Build

    graph = Graph("gradient")
    inputs: list[Value] = [graph.add_input(f"x{i}", tensor_type_of(a)) for i, a in enumerate(arrays)]
    y = graph.add(op, *inputs)
    r = graph.add_input("r", y.type)
    build = Build(graph)
    loss = build.total(build.mul(y, r))
    graph.outputs.append(("loss", loss))
    for i, d in zip(wrt, gradients(graph, loss, [inputs[i] for i in wrt]), strict=True):
        if d is not None:
            graph.outputs.append((f"g{i}", d))
    graph.prune()
    verify(graph)
    parsed = parse_graph(print_graph(graph))
    assert [n.op for n in parsed.nodes] == [n.op for n in graph.nodes]
    return graph


def feeds_of(graph: Graph, arrays: Sequence[np.ndarray], seed: int = 7) -> dict[str, np.ndarray]:
    """The arrays under the input names; inputs without an array are drawn."""
    feeds = {f"x{i}": a for i, a in enumerate(arrays)}
    rng = np.random.default_rng(seed)
    for value in graph.inputs:
        feeds.setdefault(value.name, rng.standard_normal(value.shape).astype(value.tensor.dtype.numpy))
    return feeds


def differences(graph: Graph, feeds: dict[str, np.ndarray], name: str, output: str = "loss") -> np.ndarray:
    """The derivative of a scalar output by one input, by central differences."""
    base = feeds[name]
    result = np.zeros_like(base)
    for index in np.ndindex(base.shape):
        ends = []
        for sign in (1, -1):
            moved = base.copy()
            moved[index] += sign * STEP
            ends.append(float(evaluate(graph, feeds | {name: moved})[output]))
        result[index] = (ends[0] - ends[1]) / (2 * STEP)
    return result


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 2e-6) -> None:
    scale = max(1.0, float(np.max(np.abs(expected), initial=0)))
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale)


def check_gradient(op: Op, *arrays: np.ndarray, wrt: Sequence[int] | None = None, ort: bool = True) -> None:
    """First and second derivatives by the operands `wrt` (default: the float ones), in NumPy's float64; the gradient
    graph in ONNX Runtime's float32.
    """
    arrays = tuple(a.astype(np.float64) if a.dtype.kind == "f" else a for a in arrays)
    wrt = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"] if wrt is None else wrt
    graph = gradient_graph(op, arrays, wrt)
    feeds = feeds_of(graph, arrays)
    found = evaluate(graph, feeds)
    for i in wrt:
        expected = differences(graph, feeds, f"x{i}")
        close(found.get(f"g{i}", np.zeros_like(arrays[i])), expected)
    check_second(graph, feeds, wrt)
    if ort:
        check_ort(op, arrays, wrt)


def check_second(graph: Graph, feeds: dict[str, np.ndarray], wrt: Sequence[int]) -> None:
    """Differentiates sum(q g) by every input, with q random."""
    from mgc.ir.build import Build

    graph = graph.copy()
    outputs = dict(graph.outputs)
    inputs = {v.name: v for v in graph.inputs}
    build = Build(graph)
    total: Value | None = None
    for i in wrt:
        if f"g{i}" in outputs:
            q = graph.add_input(f"q{i}", outputs[f"g{i}"].type)
            term = build.total(build.mul(outputs[f"g{i}"], q))
            total = term if total is None else build.add(total, term)
    if total is None:
        return
    names = [*(f"x{i}" for i in wrt), "r"]
    second = gradients(graph, total, [inputs[n] for n in names])
    graph.outputs.append(("second", total))
    graph.outputs += [(f"h.{n}", d) for n, d in zip(names, second, strict=True) if d is not None]
    graph.prune()
    verify(graph)
    feeds = feeds_of(graph, [], seed=8) | feeds
    found = evaluate(graph, feeds)
    for name in names:
        expected = differences(graph, feeds, name, "second")
        close(found.get(f"h.{name}", np.zeros_like(feeds[name])), expected, 2e-5)


def check_ort(op: Op, arrays: Sequence[np.ndarray], wrt: Sequence[int]) -> None:
    single = [a.astype(np.float32) if a.dtype.kind == "f" else a for a in arrays]
    graph = gradient_graph(op, single, wrt)
    feeds = feeds_of(graph, single)
    found, expected = run_ort(graph, feeds), evaluate(graph, feeds)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_allclose(found[name], value, rtol=2e-4, atol=2e-4)
