"""Modules: text form with attributes and side file, copies, and what the verifier refuses."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.dump import read_module, write_module
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.module import Entry, Module, verify_module
from mgc.ir.op import ATTRIBUTES, IRError, register_attr
from mgc.ir.ops import Binary, Host, Unary
from mgc.ir.text import header_of, parse_module, print_module
from mgc.ir.training import State
from mgc.ir.types import DType, OpaqueType, TensorType

F2 = TensorType(DType.F32, (2,))


def small_module():
    g = Graph("net")
    x = g.add_input("x", F2)
    w = g.add_input("G.w", F2)
    y = g.add(Binary("mul"), x, w, name="y", sources=["Mul"])
    z = g.add(Unary("relu"), y, name="z")
    g.outputs = [("out", z), ("G.w.next", w)]
    test = Graph("test net")
    test.outputs = [("out", test.add(Unary("exp"), test.add_input("x", F2), name="y"))]
    state = State("G.w", "parameter", np.arange(2, dtype=np.float32), group="G", onnx_name="w")
    attributes = {"ranges": {y: (0.0, 1.5), "rest": None}, "order": (g.nodes[1], g.nodes[0]), "live": frozenset([z])}
    entries = (Entry("train", "train", g, 3, 16, attributes=attributes), Entry("testing", "test", test, batched=True))
    return Module("gan", entries, (state,), {"seed": 7, "samples": np.arange(25.0).reshape(5, 5), "note": 'a "b"\n'})


def same(module):
    text, blobs = print_module(module, header=("mgc, after: x", "next: y"))
    back = parse_module(text, blobs)
    again, more = print_module(back, header=header_of(text))
    assert again == text
    assert blobs.keys() == more.keys()
    assert all(np.array_equal(blobs[k], more[k]) for k in blobs)
    return back


def test_golden(golden):
    golden("module.ir", print_module(small_module(), header=("mgc 0.1.0, after: fold", "next: quantize"))[0])


def test_reads_back_with_references_into_the_right_graph():
    back = same(small_module())
    verify_module(back)
    train = back.entries[0]
    assert (train.kind, train.repeats, train.micro_batch, train.batched) == ("train", 3, 16, False)
    assert back.entries[1].batched
    y, z = (n.outputs[0] for n in train.graph.nodes)
    assert train.attributes["ranges"] == {y: (0.0, 1.5), "rest": None}
    assert train.attributes["order"] == tuple(reversed(train.graph.nodes))
    assert train.attributes["live"] == {z}
    assert np.array_equal(back.attributes["samples"], np.arange(25.0).reshape(5, 5))
    assert back.attributes["note"] == 'a "b"\n'
    assert back.states[0].group == "G"
    assert back.states[0].initial.tolist() == [0, 1]


def test_a_graph_alone_is_a_module():
    module = parse_module('graph "g" (%x: f32[2]) -> ("y": %x) { }')
    assert [(e.name, e.kind) for e in module.entries] == [("testing", "test")]


def test_references_in_attribute_classes():
    @register_attr
    @dataclass(frozen=True)
    class TestGroup:
        node: Node
        values: tuple[Value, ...] = ()

    try:
        module = small_module()
        (entry, *_) = module.entries
        entry.attributes["groups"] = (TestGroup(entry.graph.nodes[0], tuple(entry.graph.inputs)),)
        (group,) = same(module).entries[0].attributes["groups"]
        assert group.node.sources == ("Mul",)
        assert [v.name for v in group.values] == ["x", "G.w"]
    finally:
        del ATTRIBUTES["TestGroup"]


def test_no_line_is_long():
    g = Graph("long")
    x = g.add_input("x", F2)
    op = Host(b"m" * 30_000, "because " * 5_000, ("X",), (OpaqueType(),))
    g.outputs = [("y", g.add(op, x)), ("c", g.add_constant(np.arange(100_000, dtype=np.float32)))]
    module = Module("m", (Entry("testing", "test", g, attributes={"many": tuple(range(30_000))}),))
    text, blobs = print_module(module)
    assert max(map(len, text.splitlines())) <= 200
    assert sum(b.nbytes for b in blobs.values()) == 430_000
    assert print_module(module, elide=True)[1] == {}
    back = same(module)
    assert back.entries[0].graph.nodes[0].op == op
    assert back.entries[0].attributes["many"] == tuple(range(30_000))


LITERALS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=40).map(tuple),
        st.dictionaries(st.one_of(st.integers(), st.text()), inner, max_size=5),
        st.frozensets(st.one_of(st.integers(), st.text()), max_size=5),
    ),
    max_leaves=60,
)


@settings(max_examples=100, deadline=None)
@given(LITERALS)
def test_any_tree_reads_back(tree):
    g = Graph("g")
    module = Module("m", (Entry("testing", "test", g, attributes={"a": tree}),), attributes={"b": tree})
    back = same(module)
    assert repr(sorted_sets(back.attributes["b"])) == repr(sorted_sets(tree))
    assert repr(sorted_sets(back.entries[0].attributes["a"])) == repr(sorted_sets(tree))


def sorted_sets(tree):
    if isinstance(tree, frozenset):
        return ["set", *sorted(map(repr, tree))]
    if isinstance(tree, dict):
        return {k: sorted_sets(v) for k, v in tree.items()}
    return tuple(map(sorted_sets, tree)) if isinstance(tree, tuple) else tree


def test_fresh_names_follow_from_the_graph_alone():
    g = Graph()
    x = g.add_input("x", F2)
    g.outputs = [("y", g.add(Unary("relu"), x, name="a"))]
    g.add(Unary("exp"), x, name="b")
    g.prune()
    assert g.copy().fresh_name("b") == "b"
    assert same(Module("m", (Entry("t", "test", g),))).entries[0].graph.fresh_name("a") == "a.1"


HEAD = 'module "m"\nentry "e" {kind="test"}\ngraph "g" (%x: f32[2]) -> ("y": %x) { }\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "attributes { a=%z }", "a.ir:4:16: %z is not in the graph"),
        (HEAD + "attributes { a=^x }", "a.ir:4:16: ^x is no node's first result"),
        (HEAD + "attributes { a=Unheard{} }", "a.ir:4:16: no op or attribute class 'Unheard' is known"),
        (HEAD + "attributes { a=array opaque }", "an array has a tensor type"),
        ('module "m"\nstate {name="s", kind="parameter"}', "2:1: state needs initial"),
        ('module "m"\nentry "e" {repeats=2}\ngraph "g" () -> () { }', "2:7: entry needs kind"),
        ('module "m"\nentry "e" {runs=2}\ngraph "g" () -> () { }', "entry has no attribute 'runs'"),
    ],
)
def test_errors_point_at_the_place(text, message):
    with pytest.raises(IRError, match=re.escape(message)):
        parse_module(text, file="a.ir")


def test_what_has_no_text_says_so():
    module = small_module()
    module.attributes["y"] = module.entries[0].graph.inputs[0]
    with pytest.raises(IRError, match="%x is none of the graph's: only an entry may refer"):
        print_module(module)
    module.attributes = {"a b": 1}
    with pytest.raises(IRError, match="an attribute's name is a word, not 'a b'"):
        print_module(module)


def test_verifier_names_the_entry():
    module = small_module()
    module.entries[1].graph.nodes[0].op = Unary("tanhh")
    with pytest.raises(IRError, match=r"unary: no function 'tanhh'.* \(%y\) \(entry 'testing'\)"):
        verify_module(module)
    module = small_module()
    module.states = (replace(module.states[0], initial=np.zeros(3, np.float32)),)
    with pytest.raises(IRError, match=r"state 'G.w' starts as f32\[3\], but the input is %G.w: f32\[2\]"):
        verify_module(module)
    module = small_module()
    module.entries = (module.entries[0], replace(module.entries[1], name="train"))
    with pytest.raises(IRError, match="the entries are train, train"):
        verify_module(module)
    module.entries = (replace(module.entries[0], repeats=0),)
    with pytest.raises(IRError, match="repeats, micro_batch and micro_batches are 1 or more"):
        verify_module(module)


def test_files(tmp_path):
    module = small_module()
    write_module(tmp_path / "a.ir", module, header=("after: fold", "next: quantize"))
    back, header = read_module(tmp_path / "a.ir")
    assert header == ("after: fold", "next: quantize")
    write_module(tmp_path / "b.ir", back, header=header)
    for suffix in (".ir", ".safetensors"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    module.attributes.clear()
    write_module(tmp_path / "a.ir", module)
    assert not (tmp_path / "a.safetensors").exists()
    assert read_module(tmp_path / "a.ir")[1] == ()
    (tmp_path / "b.safetensors").write_bytes(b"{")
    with pytest.raises(IRError, match=r"b\.safetensors, the data beside .*b\.ir, cannot be read"):
        read_module(tmp_path / "b.ir")
    (tmp_path / "b.ir").write_bytes(b"\xff")
    with pytest.raises(IRError, match=r"b\.ir is no text"):
        read_module(tmp_path / "b.ir")
    (tmp_path / "b.ir").write_text("graph", encoding="utf-8")
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(IRError, match=r"b\.ir:1:6: expected the graph's name"):
        read_module(tmp_path / "b.ir")


@pytest.mark.parametrize("number", [0.0, -0.0, 1.5, np.inf])
def test_equal_elements_are_written_once(number):
    g = Graph("g")
    g.outputs = [("c", g.add_constant(np.full((5, 9), number, np.float32)))]
    text, blobs = print_module(Module("m", (Entry("e", "test", g),)))
    assert f"splat {number!r}" in text
    assert blobs == {}
    (back,) = parse_module(text).entries[0].graph.constants.values()
    assert back.data.dtype == np.float32
    assert back.data.tobytes() == np.full((5, 9), number, np.float32).tobytes()
    mixed = np.zeros((5, 9), np.float32)
    mixed[1] = -0.0
    g.outputs = [("c", g.add_constant(mixed))]
    assert "#0" in print_module(Module("m", (Entry("e", "test", g),)))[0]
