"""What a model may take: every kind of file that asks for more ends in an error that names the place, and at once."""

import time

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnx.helper import make_function, make_graph, make_opsetid, make_tensor_value_info
from onnx_models import build, floats, node

from mgc.frontend import ModelError, import_model
from mgc.frontend.budget import MAX_ELEMENTS, MAX_NODES, Budget, BudgetError

F, I = TensorProto.FLOAT, TensorProto.INT64  # noqa: E741
SECONDS = 20.0  # of a busy machine; each takes less than 2 of a free one
HUGE = st.integers(26, 62).map(lambda k: 1 << k)


def refused(model, kind=BudgetError, **options):
    begin = time.monotonic()
    with pytest.raises(kind) as error:
        import_model(model, **options)
    assert time.monotonic() - begin < SECONDS
    assert error.value.where
    return str(error.value)


def ints(*values):
    return np.array(values, np.int64)


def number(value):
    return np.array(value, np.int64)


# -- elements ----------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(HUGE, st.sampled_from(["Expand", "ConstantOfShape", "Tile", "Pad", "Range", "Resize", "input"]))
def test_values_are_refused_by_their_shapes(size, kind):
    small = {"x": [1, 4]}
    match kind:
        case "Expand":
            model = build([node("ReduceMax", ["x"], ["m"]), node("Expand", ["m", "s"], ["y"])], small,
                          weights={"s": ints(size, 8)})  # fmt: skip
        case "ConstantOfShape":
            model = build([node("ConstantOfShape", ["s"], ["c"]), node("Add", ["x", "c"], ["y"])], small,
                          weights={"s": ints(size, 4)})  # fmt: skip
        case "Tile":
            model = build([node("Tile", ["x", "s"], ["y"])], small, weights={"s": ints(1, size)})
        case "Pad":
            model = build([node("Pad", ["x", "s"], ["y"])], small, weights={"s": ints(0, 0, size, size)})
        case "Range":
            model = build([node("Range", ["a", "s", "b"], ["r"]), node("Cast", ["r"], ["f"], to=F),
                           node("ReduceMax", ["f"], ["m"]), node("Add", ["x", "m"], ["y"])], small,
                          weights={"a": number(0), "s": number(size), "b": number(1)})  # fmt: skip
        case "Resize":
            size = min(size, 1 << 28)
            model = build([node("Resize", ["x", "", "", "s"], ["y"])], {"x": [1, 1, 4, 4]},
                          weights={"s": ints(1, 1, size, size)})  # fmt: skip
        case _:
            model = build([node("Relu", ["x"], ["y"])], {"x": [1, size]})
    # from there on sizes are malformed to ONNX, too: their product has more than 63 bits
    refused(model, ModelError if size >= 1 << 60 else BudgetError)


@given(st.integers(70, 600), st.integers(3, 8))
@settings(max_examples=10, deadline=None)
def test_a_transposed_convolution_is_refused_by_what_it_makes(stride, size):
    w = floats(3, 64, 3, 3)
    model = build([node("ConvTranspose", ["x", "w"], ["y"], strides=[stride, stride])], {"x": [1, 3, size, size]},
                  weights={"w": w})  # fmt: skip
    made = 64 * ((size - 1) * stride + 3) ** 2
    if made > MAX_ELEMENTS:
        assert "--max-elements" in refused(model)
        assert import_model(model, budget=Budget(elements=made))
    else:
        assert import_model(model)


def test_constants_are_counted_together():
    nodes = [node("ConstantOfShape", ["s"], [f"c{k}"]) for k in range(40)]
    nodes += [node("ReduceMax", [f"c{k}"], [f"m{k}"], keepdims=0) for k in range(40)]
    nodes += [node("Sum", ["x", *(f"m{k}" for k in range(40))], ["y"])]
    model = build(nodes, {"x": [1, 4]}, weights={"s": ints(1 << 24)})
    assert "too many constants" in refused(model)


def test_weights_may_become_constants_whatever_their_size():
    """A budget far below what the model itself holds."""
    w = np.zeros((256, 256), np.int8)
    scale, zero = np.array(0.5, np.float32), np.array(0, np.int8)
    nodes = [node("DequantizeLinear", ["w", "s", "z"], ["d"]), node("Transpose", ["d"], ["t"], perm=[1, 0]),
             node("MatMul", ["x", "t"], ["y"])]  # fmt: skip
    model = build(nodes, {"x": [1, 256]}, weights={"w": w, "s": scale, "z": zero})
    assert import_model(model, budget=Budget(elements=1024))


@given(st.integers(1 << 32, (1 << 63) - 1), st.sampled_from(["kernel_shape", "pads", "strides", "dilations"]))
@settings(max_examples=20, deadline=None)
def test_attributes_are_sizes(number, name):
    attributes = {"kernel_shape": [2, 2], name: [number] * (4 if name == "pads" else 2)}
    refused(build([node("MaxPool", ["x"], ["y"], **attributes)], {"x": [1, 3, 8, 8]}), ModelError)


@given(st.integers(33, 200))
@settings(max_examples=5, deadline=None)
def test_dimensions_are_counted(rank):
    refused(build([node("Relu", ["x"], ["y"])], {"x": [1] * rank}))


def test_an_empty_input_of_impossible_size():
    refused(build([node("Relu", ["x"], ["y"])], {"x": [0, 1 << 62]}))


# -- nodes and time ----------------------------------------------------------------------------------------------------


def doubling(depth, width=2):
    functions = [make_function("f", "E0", ["a"], ["b"], [node("Relu", ["a"], ["b"])], [make_opsetid("", 17)])]
    for k in range(1, depth + 1):
        names = ["a", *(f"m{j}" for j in range(width - 1)), "b"]
        calls = [node(f"E{k - 1}", [names[j]], [names[j + 1]], domain="f") for j in range(width)]
        functions.append(make_function("f", f"E{k}", ["a"], ["b"], calls, [make_opsetid("", 17), make_opsetid("f", 1)]))
    return build([node(f"E{depth}", ["x"], ["y"], domain="f", name="top")], {"x": [1, 4]}, domains={"f": 1},
                 functions=functions)  # fmt: skip


@given(st.integers(15, 60), st.integers(2, 4))
@settings(max_examples=10, deadline=None)
def test_functions_are_counted_before_they_are_inlined(depth, width):
    assert "'top'" in refused(doubling(depth, width))


def test_a_few_functions_are_inlined():
    assert len(import_model(doubling(5)).graph.nodes) == 32


@given(st.integers(1, 6))
@settings(max_examples=5, deadline=None)
def test_functions_that_call_each_other_in_a_circle(length):
    functions = [
        make_function("f", f"S{k}", ["a"], ["b"], [node(f"S{(k + 1) % length}", ["a"], ["b"], domain="f")],
                      [make_opsetid("", 17), make_opsetid("f", 1)])
        for k in range(length)
    ]  # fmt: skip
    model = build([node("S0", ["x"], ["y"], domain="f")], {"x": [1, 4]}, domains={"f": 1}, functions=functions)
    assert "calls itself" in refused(model, ModelError)


def test_a_chain_of_functions_that_is_too_deep():
    assert "inlined" in refused(doubling(3000, width=1), ModelError)


def test_nodes_are_counted_and_equal_names_cost_no_more():
    many = MAX_NODES + 1
    nodes = [node("Relu", [f"v{k}" if k else "x"], [f"v{k + 1}"], name="same") for k in range(many)]
    message = refused(build(nodes, {"x": [1, 4]}, outputs=[f"v{many}"]))
    assert "same" in message
    assert "--max-nodes" in message
    assert len(import_model(build(nodes[:3000], {"x": [1, 4]}, outputs=["v3000"])).node_names) == 3000


def loop(trips, growing=False):
    one = onnx.numpy_helper.from_array(np.array(1, np.float32), "one")
    step = node("Concat", ["s", "s"], ["t"], axis=0) if growing else node("Add", ["s", "one"], ["t"])
    body = make_graph(
        [node("Identity", ["c"], ["d"]), step],
        "body",
        [make_tensor_value_info("i", I, []), make_tensor_value_info("c", TensorProto.BOOL, []),
         make_tensor_value_info("s", F, None)],
        [make_tensor_value_info("d", TensorProto.BOOL, []), make_tensor_value_info("t", F, None)],
        [one],
    )  # fmt: skip
    weights = {"go": np.array(True), "z": np.zeros([1] if growing else [], np.float32)}
    if trips is not None:
        weights["n"] = number(trips)
    nodes = [node("Loop", ["n" if trips is not None else "", "go", "z"], ["r"], body=body, name="round"),
             node("ReduceMax", ["r"], ["m"], keepdims=0), node("Add", ["x", "m"], ["y"])]  # fmt: skip
    return build(nodes, {"x": [1, 4]}, weights=weights)


@pytest.mark.parametrize("trips", [None, 1 << 40, (1 << 63) - 1])
@pytest.mark.parametrize("growing", [False, True])
def test_loops_end(trips, growing):
    assert "'round'" in refused(loop(trips, growing))


def test_a_short_loop_is_computed():
    assert import_model(loop(10)).graph


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(.*a){12}$"])
def test_regular_expressions_take_linear_time(pattern):
    text = np.array(["a" * 40 + "b"], object)
    nodes = [node("RegexFullMatch", ["s"], ["b"], pattern=pattern), node("Cast", ["b"], ["f"], to=F),
             node("Add", ["x", "f"], ["y"])]  # fmt: skip
    begin = time.monotonic()
    import_model(build(nodes, {"x": [1, 4]}, weights={"s": text}, opset=20))
    assert time.monotonic() - begin < SECONDS


# -- text and counts ---------------------------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_names_that_are_not_utf8(data):
    """Bytes of any name are made such as no text has; what the file then says is refused, not looked up."""
    model = build([node("Relu", ["xxxx"], ["yyyy"], name="nnnn", domain="")], {"xxxx": ["dddd", 4]}, ["yyyy"])
    raw = model.SerializeToString()
    name = data.draw(st.sampled_from([b"xxxx", b"yyyy", b"nnnn", b"dddd"]))
    bad = raw.replace(name, b"\xff\xfe\xfdD")
    with pytest.raises(ModelError):
        import_model(bad)


@given(st.integers(2, 5))
@settings(max_examples=4, deadline=None)
def test_an_op_has_no_more_results_than_its_definition(count):
    nodes = [node("Sigmoid", ["x"], ["y", *(f"more{k}" for k in range(count - 1))], name="act")]
    nodes += [node("Add", ["y", f"more{count - 2}"], ["z"])]
    assert "'act'" in refused(build(nodes, {"x": [1, 4]}, ["z"]), ModelError)


@given(st.sampled_from([0, 99, 1000]))
def test_inputs_have_an_element_type(kind):
    model = build([node("Relu", ["x"], ["y"])], {"x": [1, 4]})
    model.graph.input[0].type.tensor_type.elem_type = kind
    assert "'x'" in refused(model, ModelError)


# -- numbers that mean nothing -----------------------------------------------------------------------------------------


@given(st.integers(-200, 200), st.sampled_from(["Softmax", "LogSoftmax", "Flatten", "LayerNormalization", "Concat"]))
@settings(max_examples=40, deadline=None)
def test_axes_are_those_of_the_operand(axis, op):
    operands = {"LayerNormalization": ["x", "w"], "Concat": ["x", "x"]}.get(op, ["x"])
    model = build([node(op, operands, ["y"], axis=axis, name="n")], {"x": [2, 3, 4]}, weights={"w": floats(4)})
    if -3 <= axis < 3 + (op == "Flatten"):
        return
    assert "'n'" in refused(model, ModelError)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("op", "name"), [("LeakyRelu", "alpha"), ("Gemm", "beta"), ("Elu", "alpha")])
def test_attributes_are_finite(op, name, number):
    operands = ["x", "w"] if op == "Gemm" else ["x"]
    model = build([node(op, operands, ["y"], name="n", **{name: float(number)})], {"x": [1, 4]},
                  weights={"w": floats(4, 4)})  # fmt: skip
    assert "'n'" in refused(model, ModelError)


@given(st.integers(30, 1000))
@settings(max_examples=10, deadline=None)
def test_element_types_are_known(kind):
    refused(build([node("Cast", ["x"], ["y"], to=kind)], {"x": [1, 4]}), ModelError)


def test_shapes_are_whole_numbers():
    model = build([node("Reshape", ["x", "s"], ["y"])], {"x": [1, 4]}, weights={"s": np.array([2.0, 2.0], np.float32)})
    refused(model, ModelError)


@given(st.floats(2e30, 3.4e38), st.sampled_from(["MatMul", "Gemm"]))
@settings(max_examples=10, deadline=None)
def test_weights_whose_products_are_not_finite(size, op):
    w = np.ones((4, 4), np.float32)
    w[1, 2] = size
    model = build([node(op, ["x", "weight"], ["y"])], {"x": [1, 4]}, weights={"weight": w})
    assert "'weight'" in refused(model, ModelError)


# -- growth ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["chain", "fan", "one name"])
def test_import_takes_time_in_proportion(shape):
    def seconds(count):
        names = [f"v{k}" for k in range(count + 1)]
        nodes = [node("Sin", ["x" if shape == "fan" or not k else names[k]], [names[k + 1]],
                      name="same" if shape == "one name" else "") for k in range(count)]  # fmt: skip
        model = build(nodes, {"x": [1, 4]}, outputs=names[1:] if shape == "fan" else names[-1:])
        begin = time.process_time()
        import_model(model)
        return time.process_time() - begin

    seconds(100)
    small = min(seconds(500) for _ in range(2))
    assert seconds(4000) < 8 * 3 * small + 0.2  # eight times as much, of which a square would make 64
