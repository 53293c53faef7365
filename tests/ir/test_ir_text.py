"""Text form: printing and parsing are inverse, errors point at the place, golden text."""

import dataclasses
import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.ir.graph import Graph, evaluate
from mgc.ir.op import ATTRIBUTES, REGISTRY, IRError, Op, register, register_attr
from mgc.ir.ops import Binary, Cast, Concat, Conv, Host, Reduce, Reshape, Slice, Unary
from mgc.ir.text import parse_graph, parse_module, print_graph, print_op
from mgc.ir.types import DType, OpaqueType, TensorType
from mgc.ir.verifier import verify


def small_graph():
    g = Graph("conditional generator")
    z = g.add_input("z", TensorType(DType.F32, (2, 4)))
    w = g.add_constant(np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2), "w", group="generator", onnx_name="G.w")
    slope = g.add_constant(np.float32(0.2), "slope")
    x = g.add(Reshape((2, 1, 2, 2)), z, name="x", sources=["view"])
    both = g.add(Concat(1), x, x, name="both", sources=["cat"])
    three = g.add(Slice((0, 0, 0, 0), (2, 2, 2, 2), (1, 1, 1, 1)), both, sources=["cat", "slice"])
    wide = g.add(Concat(1), three, x, name="wide")
    h = g.add(Conv((1, 1), (1, 1, 1, 1), (1, 1)), wide, w, name="h", sources=["conv"])
    h = g.add(Binary("mul"), h, slope)
    y = g.add(Unary("leaky_relu", 0.2), h, name="y", sources=['a "quoted" name'])
    g.outputs.append(("image 1", y))
    g.absorbed["drop"] = "Dropout changes nothing here"
    return g


def test_golden(golden):
    golden("small.ir", print_graph(small_graph()))
    golden("small_elided.ir", print_graph(small_graph(), elide=True))


def test_reads_back_to_the_same_graph():
    g = small_graph()
    text = print_graph(g)
    back = parse_graph(text)
    verify(back)
    assert print_graph(back) == text
    assert [n.op for n in back.nodes] == [n.op for n in g.nodes]
    assert [n.sources for n in back.nodes] == [n.sources for n in g.nodes]
    assert back.absorbed == g.absorbed
    assert [(c.group, c.onnx_name) for c in back.constants.values()] == [("generator", "G.w"), ("", "")]
    z = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    assert np.array_equal(evaluate(g, {"z": z})["image 1"], evaluate(back, {"z": z})["image 1"])
    assert back.fresh_name("y") == "y.1"


@st.composite
def arrays(draw):
    dtype = draw(st.sampled_from(list(DType)))
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    size = int(np.prod(shape, dtype=int))
    if dtype.is_float:
        values = draw(st.lists(st.floats(width=64), min_size=size, max_size=size))
    elif dtype is DType.BOOL:
        values = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    else:
        limits = np.iinfo(dtype.numpy)
        values = draw(st.lists(st.integers(int(limits.min), int(limits.max)), min_size=size, max_size=size))
    with np.errstate(all="ignore"):
        return np.array(values, np.float64 if dtype.is_float else dtype.numpy).astype(dtype.numpy).reshape(shape)


@settings(max_examples=80, deadline=None)
@given(arrays())
def test_data_of_any_type_reads_back_to_the_bit(data):
    g = Graph("data")
    g.outputs.append(("c", g.add_constant(data, "c")))
    text = print_graph(g)
    (back,) = parse_graph(text).constants.values()
    assert back.data.dtype == data.dtype
    assert back.data.shape == data.shape
    nan = np.isnan(data) if DType.of(data.dtype).is_float else np.zeros(data.shape, bool)
    assert np.array_equal(back.data[~nan].view(np.uint8), data[~nan].view(np.uint8))
    assert print_graph(parse_graph(text)) == text


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_graphs_read_back(data):
    text = st.text(max_size=6)
    g = Graph(data.draw(text))
    shape = (2, 3)
    for name in data.draw(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3, unique=True)):
        g.add_input(name, TensorType(DType.F32, shape))
    values = list(g.inputs)
    for _ in range(data.draw(st.integers(0, 6))):
        a, b = data.draw(st.sampled_from(values)), data.draw(st.sampled_from(values))
        sources = data.draw(st.lists(text, max_size=2))
        name = data.draw(text)
        kind = data.draw(st.sampled_from(["unary", "binary", "const", "cast", "reduce"]))
        if kind == "const":
            values.append(g.add_constant(np.full(shape, data.draw(st.floats(width=32)), np.float32), name, group=name))
        elif kind == "unary":
            alpha = data.draw(st.floats(allow_nan=False))
            values.append(g.add(Unary("elu", alpha), a, name=name, sources=sources))
        elif kind == "binary":
            values.append(g.add(Binary("mul"), a, b, name=name, sources=sources))
        elif kind == "reduce":
            r = g.add(Reduce("sum", (1,), data.draw(st.booleans())), a, name=name)
            values.append(g.add(Binary("add"), a, g.add(Reshape((2, 1)), r)))
        else:
            i = g.add(Cast(DType.BF16), a, name=name, sources=sources)
            values.append(g.add(Cast(DType.F32), i))
    g.outputs = [(data.draw(text), v) for v in data.draw(st.lists(st.sampled_from(values), max_size=3))]
    printed = print_graph(g)
    back = parse_graph(printed)
    verify(back)
    assert print_graph(back) == printed


F1 = TensorType(DType.F32, (1,))


@pytest.fixture
def nested_op():
    @register_attr
    @dataclass(frozen=True)
    class TestLoop:
        extent: int
        strides: tuple[int, ...] = ()
        inner: tuple["TestLoop", ...] = ()

    @register
    @dataclass(frozen=True)
    class TestMvm(Op):
        name: ClassVar[str] = "test_mvm"
        level: ClassVar[int] = 2
        loop: TestLoop
        steps: tuple[Op, ...] = ()
        result: TensorType = F1
        scale: float | None = None
        blob: bytes = b""
        on: bool = False

        def infer(self, *types):
            return (self.result,)

    yield TestMvm, TestLoop
    del REGISTRY["test_mvm"], ATTRIBUTES["TestLoop"]


def test_nested_attributes(nested_op):
    op_class, loop = nested_op
    op = op_class(
        loop(3, (1, 2), (loop(1), loop(2, (5,)))),
        (Unary("relu"), Cast(DType.I8)),
        TensorType(DType.I64, ()),
        0.5,
        b"\x00\xff bytes",
        True,
    )
    g = Graph()
    g.outputs.append(("y", g.add(op)))
    text = print_graph(g)
    assert (
        "loop=TestLoop{extent=3, strides=(1, 2), inner=(TestLoop{extent=1}, TestLoop{extent=2, strides=(5,)})}"
        in " ".join(text.split())
    )
    back = parse_graph(text)
    assert back.nodes[0].op == op
    assert print_graph(back) == text
    plain = op_class(loop(1))
    assert print_op(plain) == "test_mvm{loop=TestLoop{extent=1}}"


def test_opaque_and_several_results():
    g = Graph()
    g.add_input("s", OpaqueType())
    a, b = g.add_multi(Host(b"model", "why not", ("X", "Y"), (OpaqueType(), TensorType(DType.F32, (2,)))), g.inputs[0])
    g.outputs = [("a", a), ("b", b)]
    text = print_graph(g)
    assert "(%s: opaque)" in text
    assert " : opaque, f32[2]" in " ".join(text.split())
    assert print_graph(parse_graph(text)) == text


def test_comments_and_spacing_do_not_matter():
    text = """
      // a comment
      graph "g"(%x:f32[ 2 ],)->("y":%y){ // another
        %y=unary(%x){fn="relu",}:f32[2]
      }"""
    assert parse_graph(text).nodes[0].op == Unary("relu")


HEAD = 'graph "g" (%x: f32[2]) -> ("y": %y) {\n'
ERRORS = [
    ("", "1:1: expected 'graph', found end of text"),
    ("graph g", "1:7: expected the graph's name, found g"),
    ('graph "g" (x: f32[2])', "1:12: expected a value (%name), found x"),
    ('graph "g" (%x f32[2])', "1:15: expected ':', found f32"),
    ('graph "g" (%x: float[2])', "1:16: expected a type (f32[1,2], opaque), found float"),
    ('graph "g" (%x: f32[2.5])', "dimensions are whole numbers"),
    ('graph "g" (%x: f32[2] %y', "1:23: expected ',' or ')', found %y"),
    (HEAD + "  %y = relu(%x) : f32[2]\n}", "2:8: no op or attribute class 'relu' is known"),
    (HEAD + '  %y = unary(%z) {fn="relu"} : f32[2]\n}', "2:14: %z is not defined before"),
    (HEAD + '  %y = unary(%x) {f="relu"} : f32[2]\n}', "2:8: unary has no attribute 'f'; it has fn, alpha, beta"),
    (HEAD + "  %y = unary(%x) : f32[2]\n}", "2:8: unary needs fn"),
    (HEAD + '  %y = unary(%x) {fn="relu", fn="exp"} : f32[2]\n}', "2:30: attribute 'fn' is given twice"),
    (HEAD + '  %y = unary(%x) {fn="relu"}\n}', "3:1: expected ':', found }"),
    (HEAD + '  %x = unary(%x) {fn="relu"} : f32[2]\n}', "2:3: %x is defined twice"),
    (HEAD + '  %y, %v = unary(%x) {fn="relu"} : f32[2]\n}', "2:12: 2 results but 1 types"),
    (HEAD + "  %c = const f32[3] [1, 2]\n}", "2:21: 2 numbers where f32[3] needs 3"),
    (HEAD + "  %c = const f32[3] #7\n}", "2:21: no data #7 at the end or in the file beside"),
    (HEAD + '  %c = const f32[3] #0\n}\ndata { #0 "AAAA" }', "2:21: 3 bytes of data where f32[3] needs 12"),
    (HEAD + '  %c = const f32[3] #0\n}\ndata { #0 "A" }', "bad base64"),
    (HEAD + "  %c = const u8[1] [256]\n}", "2:20: data does not fit u8[1]"),
    (HEAD + "  %c = const f32[3] elided\n}", "2:21: the data was elided when this was printed"),
    (HEAD + "}", "1:33: output %y is not defined"),
    (HEAD + "  $\n}", "2:3: unexpected character '$'"),
    (HEAD + '  %y = unary(%x) {fn="relu"} : f32[2] from main\n}', "expected a node's name, found main"),
    (HEAD + "  %y = unary(%x) {fn=} : f32[2]\n}", "expected a number, string, (tuple), type"),
    (HEAD + '  %y = unary(%x) {fn="relu"} : f32[2]\n} more', "3:3: expected the end, found more"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS)
def test_errors_point_at_the_place(text, message):
    with pytest.raises(IRError, match=re.escape(message)) as error:
        parse_graph(text)
    assert re.match(r"\d+:\d+: ", str(error.value))
    with pytest.raises(IRError) as error:
        parse_graph(text, file="step.ir")
    assert re.match(r"step\.ir:\d+:\d+: ", str(error.value))


def test_verifier_names_line_node_and_origin():
    text = HEAD + '  %y = unary(%x) {fn="tanhh"} : f32[2] from "/net/act/Tanh"\n}'
    with pytest.raises(IRError) as error:
        verify(parse_graph(text, file="step.ir"))
    assert str(error.value).startswith("step.ir:2: unary: no function 'tanhh'; there are neg, ")
    assert str(error.value).endswith(""" (%y, from "/net/act/Tanh")""")
    with pytest.raises(IRError, match=r"^2: unary: no function"):
        verify(parse_graph(text).copy())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_text_is_an_error_or_a_graph(data):
    text = print_graph(small_graph())
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.sampled_from(["", "}", '"', "%", "(", "\n", "x", "9"])) + text[at + 1 :]
    failure = ""
    try:
        parse_graph(damaged)
    except IRError as error:
        failure = str(error)
    assert not failure or re.match(r"\d+:\d+: ", failure)


def test_unregistered_attribute_has_no_text():
    @dataclass(frozen=True)
    class Odd:
        x: int = 1

    op = dataclasses.replace(Unary("relu"), fn=Odd())  # type: ignore[arg-type]
    with pytest.raises(IRError, match="register_attr"):
        print_op(op)


@pytest.mark.parametrize("deep", ["(" * 5000, "[" * 5000, "{" * 5000])
def test_a_text_that_nests_too_deep(deep):
    with pytest.raises(IRError):
        parse_module(f'graph "g" (%x: f32[1]{deep}) -> ("y": %x) {{\n}}\n')
    with pytest.raises(IRError):
        parse_module(f'module "m" {{\n  a={deep},\n}}\n')
