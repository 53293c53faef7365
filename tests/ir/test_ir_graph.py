"""Graph editing and the verifier."""

import numpy as np
import pytest

from mgc.ir.graph import Graph, Value, evaluate
from mgc.ir.op import IRError
from mgc.ir.ops import Binary, Unary
from mgc.ir.types import DType, TensorType
from mgc.ir.verifier import verify

F2 = TensorType(DType.F32, (2,))


def chain():
    g = Graph()
    x = g.add_input("x", F2)
    a = g.add(Unary("relu"), x, name="a", sources=["A"])
    b = g.add(Unary("exp"), a, name="b", sources=["B"])
    c = g.add(Binary("add"), b, g.add_constant(np.ones(2, np.float32), "one"), name="c", sources=["C"])
    g.outputs.append(("y", c))
    return g, x, a, b, c


def test_evaluate_under_onnx_names():
    g, *_ = chain()
    assert evaluate(g, {"x": np.array([-1, 0], np.float32)})["y"].tolist() == [2, 2]


def test_replace_follows_chains_and_prune_absorbs_sources():
    g, x, a, b, _ = chain()
    g.replace({b: a, a: x})
    g.prune()
    verify(g)
    assert [n.sources for n in g.nodes] == [("C",)]
    assert g.nodes[0].inputs[0] is x
    assert set(g.absorbed) == {"A", "B"}


def test_sort_is_stable_and_finds_cycles():
    g, _, _, b, _ = chain()
    order = list(g.nodes)
    g.nodes.reverse()
    with pytest.raises(IRError, match="used before it is defined"):
        verify(g)
    g.sort()
    verify(g)
    assert g.nodes == order
    g.nodes[0].inputs = (b,)
    with pytest.raises(IRError, match="cycle"):
        g.sort()


def test_copy_is_apart_but_shares_data():
    g, *_ = chain()
    other = g.copy()
    verify(other)
    assert not set(other.nodes) & set(g.nodes)
    (mine,), (theirs,) = g.constants.values(), other.constants.values()
    assert mine.data is theirs.data
    other.nodes.clear()
    assert len(g.nodes) == 3


def test_users_and_producers():
    g, x, a, _, c = chain()
    assert [n.op for n in g.users()[x]] == [Unary("relu")]
    assert g.producers()[a].op == Unary("relu")
    assert c in g.output_values()
    assert g.data(x) is None


def test_verifier_names_what_is_wrong():
    g, *_ = chain()
    g.nodes[1].outputs = (Value("b", TensorType(DType.F32, (3,))),)
    with pytest.raises(IRError, match=r"unary: results are f32\[3\], its rule gives f32\[2\] \(%b, from \"B\"\)"):
        verify(g)
    g, _, a, *_ = chain()
    a.name = "x"
    with pytest.raises(IRError, match="two values are named %x"):
        verify(g)
    g, *_ = chain()
    (constant,) = g.constants.values()
    constant.data = np.ones(3, np.float32)
    with pytest.raises(IRError, match="constant %one"):
        verify(g)
    g, *_ = chain()
    with pytest.raises(IRError, match="an op of level 1 in a graph of levels"):
        verify(g, levels=(2,))


def test_input_declared_twice():
    g = Graph()
    g.add_input("x", F2)
    with pytest.raises(IRError, match="declared twice"):
        g.add_input("x", F2)
