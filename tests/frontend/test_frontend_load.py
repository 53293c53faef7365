"""Reading models: sources, external data and its bounds, damaged files."""

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array, to_array
from onnx_models import build, floats, node

from mgc.frontend import ModelError, import_model, unaccounted
from mgc.ir.graph import evaluate

F = TensorProto.FLOAT
W, B = floats(4, 3), floats(3, seed=1)


def linear(**more):
    return build([node("Gemm", ["x", "w", "b"], ["y"], name="fc")], {"x": ["N", 4]}, weights={"w": W, "b": B}, **more)


# -- sources -----------------------------------------------------------------------------------------------------------


def test_path_bytes_and_proto_are_the_same(tmp_path):
    model = linear()
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    before = path.stat().st_mtime_ns, path.read_bytes()
    results = [import_model(s) for s in (path, str(path), path.read_bytes(), model)]
    assert {r.model_sha256 for r in results} == {hashlib.sha256(path.read_bytes()).hexdigest()}
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match="No such file"):
        import_model(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="directory"):
        import_model(tmp_path)


# -- external data -----------------------------------------------------------------------------------------------------


@pytest.fixture
def external(tmp_path):
    """A model in m/ with both weights in m/data.bin, and a way to change what the file says of them."""
    folder = tmp_path / "m"
    folder.mkdir()
    path = folder / "model.onnx"
    onnx.save(linear(), str(path), save_as_external_data=True, location="data.bin", size_threshold=0)

    def change(**entries: str) -> Path:
        model = onnx.load(str(path), load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = entries.get(entry.key, entry.value)
        path.write_bytes(model.SerializeToString())
        return path

    return change


def test_external_data_beside_the_model(external):
    path = external()
    result = import_model(path, batch=2)
    x = floats(2, 4, seed=2)
    np.testing.assert_allclose(evaluate(result.graph, {"x": x})["y"], x @ W + B, rtol=1e-5, atol=1e-6)
    alone = hashlib.sha256(path.read_bytes()).hexdigest()
    assert result.model_sha256 != alone, "the data counts too"


def test_external_data_in_a_folder_below(external):
    path = external(location="deep/data.bin")
    (path.parent / "deep").mkdir()
    (path.parent / "data.bin").rename(path.parent / "deep" / "data.bin")
    assert import_model(path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "../data.bin"}, "must lie in the model's own folder"),
        ({"location": "a/../../data.bin"}, "must lie in the model's own folder"),
        ({"location": "/etc/hostname"}, "must lie in the model's own folder"),
        ({"location": "..\\data.bin"}, "must lie in the model's own folder"),
        ({"location": ""}, "must lie in the model's own folder"),
        ({"location": "gone.bin"}, "external data file 'gone.bin' is missing"),
        ({"location": "."}, "is missing"),
        ({"offset": "100000"}, "ends after 0 of"),
        ({"length": "100000"}, "of 100000 bytes"),
        ({"length": "9" * 15}, "ends after"),
        ({"length": "8"}, "does not fit type and shape"),
        ({"offset": "-4"}, "external data with offset and length"),
        ({"length": "many"}, "external data with offset and length"),
    ],
)
def test_external_data_out_of_bounds(external, entries, message):
    with pytest.raises(ModelError, match=message) as error:
        import_model(external(**entries))
    assert error.value.where.endswith(("'w'", "'b'"))


def test_external_data_through_a_link(external, tmp_path):
    path = external(location="link.bin")
    outside = tmp_path / "outside.bin"
    (path.parent / "data.bin").rename(outside)
    (path.parent / "link.bin").symlink_to(outside)
    with pytest.raises(ModelError, match="leads outside"):
        import_model(path)
    (path.parent / "link.bin").unlink()
    outside.rename(path.parent / "inside.bin")
    (path.parent / "link.bin").symlink_to("inside.bin")
    assert import_model(path)


def test_external_data_through_a_linked_folder(external, tmp_path):
    path = external(location="sub/data.bin")
    (tmp_path / "elsewhere").mkdir()
    (path.parent / "data.bin").rename(tmp_path / "elsewhere" / "data.bin")
    (path.parent / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="leads outside"):
        import_model(path)


def test_external_data_from_the_models_folder_whatever_the_working_directory(external, tmp_path, monkeypatch):
    path = external()
    monkeypatch.chdir(tmp_path)
    assert import_model(os.path.relpath(path))
    monkeypatch.chdir(path.parent)
    assert import_model("model.onnx")


def test_external_data_needs_a_path(external):
    with pytest.raises(ModelError, match="give the model as a file, not as bytes"):
        import_model(external().read_bytes())


def test_external_data_in_a_constant_node(external):
    path = external()
    model = onnx.load(str(path), load_external_data=False)
    weights = list(model.graph.initializer)
    del model.graph.initializer[:]
    for tensor in reversed(weights):
        model.graph.node.insert(0, make_node("Constant", [], [tensor.name], value=tensor))
    path.write_bytes(model.SerializeToString())
    result = import_model(path, batch=2)
    x = floats(2, 4, seed=2)
    np.testing.assert_allclose(evaluate(result.graph, {"x": x})["y"], x @ W + B, rtol=1e-5, atol=1e-6)


# -- what is no model --------------------------------------------------------------------------------------------------

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (PNG, "not an ONNX model, or a damaged one"),
        (b"PK\x03\x04 zip", "not an ONNX model|holds no graph"),
        (b"hello world, this is text\n", "not an ONNX model|holds no graph"),
        (b'{"json": true}', "not an ONNX model|holds no graph"),
        (linear().SerializeToString()[:-20], "not an ONNX model|no outputs|undefined|does not fit"),
        (linear().SerializeToString()[:100], "not an ONNX model|undefined|no graph|no outputs"),
        (b"\x08\x08", "holds no graph"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "holds no graph"),
    ],
    ids=["empty", "png", "zip", "text", "json", "cut", "half", "bare", "no graph"],
)
def test_not_a_model(data, message, tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message):
        import_model(path)


def raw(nodes, inputs=("x",), outputs=("y",), weights=(), opset=17, **more):
    graph = make_graph(
        nodes,
        "g",
        [make_tensor_value_info(i, F, [2, 2]) for i in inputs],
        [make_tensor_value_info(o, F, None) for o in outputs],
        list(weights),
    )
    return make_model(graph, opset_imports=[make_opsetid("", opset)], **more)


NAN = from_array(np.array([1, np.nan, np.inf], np.float32), "w")
RELU = make_node("Relu", ["x"], ["y"], name="r")
NORM = make_node("BatchNormalization", ["x", "w", "w", "w", "v"], ["y"], name="bn")
MUL = make_node("Mul", ["x", "w"], ["y"])
LOOP = [
    make_node("Add", ["x", "b"], ["a"], name="one"),
    make_node("Relu", ["a"], ["b"]),
    make_node("Exp", ["b"], ["y"]),
]
HUGE = [make_node("ConstantOfShape", ["s"], ["c"]), RELU]


def array(data, dtype=np.float32, name="w"):
    return from_array(np.array(data, dtype), name)


MODELS = {
    "undefined": (
        raw([make_node("Add", ["x", "q"], ["y"], name="a")]),
        r"node 'a' \(Add\): input 'q' is undefined",
    ),
    "cycle": (raw(LOOP), r"node 'one' \(Add\): input 'b' is made only later: the graph has a cycle"),
    "own input": (raw([make_node("Add", ["x", "y"], ["y"], name="one")]), "the graph has a cycle"),
    "two definitions": (
        raw([RELU, make_node("Exp", ["x"], ["y"], name="e")]),
        r"node 'e' \(Exp\): output 'y' is already made by node 'r'",
    ),
    "output is an input": (raw([make_node("Relu", ["x"], ["x"])]), "output 'x' is already a graph input"),
    "two inputs": (raw([RELU], inputs=("x", "x")), "input 'x': two inputs have this name"),
    "two outputs": (raw([RELU], outputs=("y", "y")), "output 'y': two outputs have this name"),
    "two weights": (raw([RELU], weights=[array(1), array(1)]), "initializer 'w': two initializers"),
    "no outputs": (raw([RELU], outputs=()), "the graph has no outputs"),
    "output undefined": (raw([RELU], outputs=("z",)), "output 'z': no node makes it"),
    "nan weight": (raw([MUL], weights=[NAN]), "initializer 'w': 1 NaN and 1 infinite values"),
    "overflow": (raw([MUL], weights=[array([1e300, 1.0], np.float64)]), "0 NaN and 1 infinite values"),
    "opset 0": (raw([RELU], opset=0), "opset 0 of domain ''"),
    "opset huge": (raw([RELU], opset=2**40), "opset 1099511627776"),
    "unnamed input": (raw([RELU], inputs=("x", "")), "an input has no name"),
    "shapes": (
        raw([make_node("MatMul", ["x", "w"], ["y"], name="mm")], weights=[from_array(W, "w")]),
        r"node 'mm' \(MatMul\): matmul: a is f32\[2,2\] but b is f32\[4,3\]: inner dimensions 2 and 4 differ",
    ),
    "negative variance": (
        raw([NORM], weights=[array([1, 1]), array([1, -1], name="v")]),
        r"node 'bn' \(BatchNormalization\): variance 'v' of channel 1 is -1.0 and epsilon 1e-05",
    ),
    "missing operand": (raw([make_node("Add", ["x"], ["y"])]), "input 1 is missing"),
    "missing attribute": (raw([make_node("Cast", ["x"], ["y"])]), "attribute 'to' is missing"),
    "too large": (raw(HUGE, weights=[array([2**40], np.int64, "s")]), r"a constant of 1099511627776 elements"),
}


@pytest.mark.parametrize(("model", "message"), MODELS.values(), ids=MODELS)
def test_broken_models_are_clear_errors(model, message):
    with pytest.raises(ModelError, match=message) as error:
        import_model(model)
    assert "\n" not in str(error.value)


def test_minus_infinity_is_allowed_in_masks_and_bounds():
    mask = np.where(np.tri(2) > 0, 0, -np.inf).astype(np.float32)
    model = raw(
        [make_node("Add", ["x", "m"], ["a"]), make_node("Clip", ["a", "low"], ["y"])],
        weights=[from_array(mask, "m"), from_array(np.float32(-np.inf), "low")],
    )
    assert import_model(model)
    model = raw([make_node("MatMul", ["x", "m"], ["y"])], weights=[from_array(mask, "m")])
    with pytest.raises(ModelError, match="initializer 'm'"):
        import_model(model)


def test_a_wrong_declared_shape_does_not_matter():
    model = raw([RELU])
    model.graph.output[0].CopyFrom(make_tensor_value_info("y", F, [7, 9]))
    model.graph.value_info.append(make_tensor_value_info("y", F, [1]))
    result = import_model(model)
    assert result.outputs[0].bound == (2, 2)
    assert result.outputs[0].shape == (7, 9)


def test_a_negative_dimension_of_a_weight():
    model = linear()
    model.graph.initializer[0].dims[0] = -4
    with pytest.raises(ModelError, match=r"initializer 'w': .*\[-4, 3\] \(a negative dimension\)"):
        import_model(model)


def test_a_batch_no_machine_can_hold():
    with pytest.raises(ModelError, match=r"batch is 1e\+?20|batch is 10{20}"):
        import_model(linear(), batch=10**20)


def test_weight_data_that_does_not_fit_its_shape():
    model = linear()
    model.graph.initializer[0].dims[0] = 5
    with pytest.raises(ModelError, match=r"initializer 'w': data does not fit type and shape \[5, 3\]"):
        import_model(model)


SMALL = build(
    [
        node("Gemm", ["x", "w", "b"], ["h"], transB=1),
        node("LeakyRelu", ["h"], ["a"], alpha=0.2),
        node("Reshape", ["a", "shape"], ["r"]),
        node("ConvTranspose", ["r", "k"], ["c"], strides=[2], pads=[1, 1]),
        node("Softmax", ["c"], ["s"], axis=2),
        node("Slice", ["s", "zero", "four", "two"], ["t"]),
        node("TopK", ["t", "one"], ["y", "i"]),
    ],
    {"x": ["N", 3]},
    {"y": F, "i": TensorProto.INT64},
    {
        "w": floats(4, 3),
        "b": floats(4),
        "shape": np.array([0, 2, 2]),
        "k": floats(2, 1, 4),
        "zero": np.array([0]),
        "four": np.array([4]),
        "two": np.array([2]),
        "one": np.array([1]),
    },
).SerializeToString()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.booleans())
def test_damaged_bytes_are_a_clear_error_or_a_model(changes, cut):
    damaged = bytearray(SMALL)
    for at, byte in changes:
        damaged[at] = byte
    if cut:
        del damaged[changes[0][0] : changes[0][0] + 3]
    try:
        result = import_model(bytes(damaged))
    except ModelError:
        return
    assert unaccounted(result) == set()


def test_the_undamaged_bytes_are_a_model():
    result = import_model(SMALL, batch=2)
    x = floats(2, 3)
    assert evaluate(result.graph, {"x": x})["y"].shape == (2, 1, 1)
    assert to_array(onnx.load_model_from_string(SMALL).graph.initializer[0]).shape == (4, 3)
