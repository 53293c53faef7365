"""Graph editing and the verifier."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.ir.graph import Graph, Node, Value, evaluate
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


def test_rules_that_were_asked_are_asked_again_of_other_types():
    inferred = {}
    g, *_ = chain()
    verify(g, inferred=inferred)
    verify(g.copy(), inferred=inferred)
    wrong = g.copy()
    wrong.nodes[1].outputs = (Value("b", TensorType(DType.F32, (3,))),)
    with pytest.raises(IRError, match=r"unary: results are f32\[3\], its rule gives f32\[2\]"):
        verify(wrong, inferred=inferred)
    wrong = g.copy()
    wrong.nodes[2].inputs = (wrong.nodes[2].inputs[0], wrong.add_constant(np.ones((3, 2, 5), np.float32)))
    with pytest.raises(IRError, match="do not broadcast"):
        verify(wrong, inferred=inferred)
    verify(g, inferred=inferred)


def test_input_declared_twice():
    g = Graph()
    g.add_input("x", F2)
    with pytest.raises(IRError, match="declared twice"):
        g.add_input("x", F2)


def indexed_anew(g):
    """Producers and readers, found by a walk over the nodes."""
    makes = {v: n for n in g.nodes for v in n.outputs}
    reads = {v: sorted(id(n) for n in g.nodes for i in n.inputs if i is v) for v in g.values()}
    return makes, reads


def as_kept(g):
    makes = {v: n for v in g.values() if (n := g.producer(v)) is not None}
    return makes, {v: sorted(map(id, g.uses(v))) for v in g.values()}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1 << 20), st.integers(0, 1 << 20)), max_size=25))
def test_uses_are_kept_whatever_way_a_graph_is_edited(steps):
    g = Graph()
    x = g.add_input("x", F2)
    g.add(Binary("add"), x, x)
    for kind, first, second in steps:
        values, nodes = g.values(), g.nodes
        a = values[first % len(values)]
        node = nodes[second % len(nodes)] if nodes else None
        if kind < 3 or node is None:
            g.add(Binary("add"), a, values[second % len(values)], at=first % (len(nodes) + 1))
        elif kind == 3:
            g.add(Unary("relu"), a, at=node)
        elif kind == 4:
            node.inputs = (a, *node.inputs[1:])
        elif kind == 5:
            g.remove(node)
        elif kind == 6:
            nodes.remove(node)
        elif kind == 7:
            nodes[second % len(nodes)] = Node(node.op, (a,), node.outputs)
        elif kind == 8:
            g.replace({node.outputs[0]: x}, keep=[node])
        else:
            g.nodes = nodes[1:]
        assert all(g.holds(n) for n in g.nodes)
        assert as_kept(g) == indexed_anew(g)


def test_bypass_accounts_for_sources():
    g, x, a, _, _ = chain()
    (relu, exp, _) = g.nodes
    g.bypass(relu, [x], "no need")
    assert exp.inputs == (x,)
    assert g.absorbed == {"A": "no need"}
    assert not g.holds(relu)
    assert g.producer(a) is None
