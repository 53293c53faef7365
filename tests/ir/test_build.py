"""The builder: what it leaves out, what it computes at once."""

import numpy as np

from mgc.ir.build import Build
from mgc.ir.graph import Graph
from mgc.ir.types import DType, TensorType


def start(*shape):
    graph = Graph()
    return graph, Build(graph, sources=("s",), hint="h"), graph.add_input("x", TensorType(DType.F32, shape))


def test_what_changes_nothing_adds_nothing():
    graph, build, x = start(2, 3)
    assert build.reshape(x, (2, 3)) is x
    assert build.transpose(x, (0, 1)) is x
    assert build.expand(x, (2, 3)) is x
    assert build.slice(x, (0, 0), (2, 3)) is x
    assert build.pad(x, (0, 0), (0, 0)) is x
    assert build.mul(x, 1.0) is x
    assert build.cast(x, DType.F32) is x
    assert build.sum_to(x, (2, 3)) is x
    assert not graph.nodes


def test_small_constants_are_computed_at_once():
    graph, build, x = start(2)
    two = build.number(2.0, x)
    assert build.number(2.0, DType.F32) is two
    assert build.data(build.mul(two, 3.0)) == 6
    assert not graph.nodes
    weight = graph.add_constant(np.ones(2, np.float32), "w", onnx_name="w")
    assert build.data(build.mul(weight, 2.0)) is None, "what may be trained stays an op"


def test_ops_are_stamped_and_named():
    graph, build, x = start(2)
    y = build.unary("exp", x)
    assert (graph.nodes[0].sources, y.name) == (("s",), "h")


def test_sum_to_undoes_broadcasting():
    _, build, x = start(4, 2, 3)
    for shape in [(2, 3), (1, 3), (3,), (), (4, 1, 1)]:
        assert build.sum_to(x, shape).shape == shape
    assert build.part(x, 1, 0, 1).shape == (4, 1, 3)
    assert build.pad_axis(x, 2, 1, 2).shape == (4, 2, 6)
    assert build.swap(x).shape == (4, 3, 2)
    assert build.total(x).shape == ()
