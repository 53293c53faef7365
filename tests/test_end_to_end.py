"""From ONNX to simulated results, on the networks of models/ and on shapes that once went wrong."""

import io
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from checker import check, facts_of_program
from onnx import TensorProto, helper, numpy_helper

import mgc
from benchmarks import networks
from mgc.sim import replay
from mgc.targets import load_target, target_toml

ROOT = Path(__file__).parents[1]
MODELS = sorted((ROOT / "models").glob("*/*.onnx"))


def feeds(path_or_bytes, samples, seed=3):
    session = onnxruntime.InferenceSession(path_or_bytes, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(seed)
    given = {i.name: rng.standard_normal([samples, *i.shape[1:]]).astype(np.float32) for i in session.get_inputs()}
    names = [o.name for o in session.get_outputs()]
    return given, dict(zip(names, session.run(names, given), strict=True))


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_network_of_models(path):
    program = mgc.compile(path, batch=4, calibrate="minmax")
    assert program.entry.schedule.status == "OPTIMAL" or program.entry.schedule.gap <= 0.02
    edram = load_target("liu2018").edram.bytes_per_tile * load_target("liu2018").structure.tiles
    assert not check(facts_of_program(program, {"edram": edram}))
    assert replay(program).makespan == program.entry.schedule.makespan
    given, expected = feeds(str(path), 2)
    ideal = mgc.Simulator(program, numerics="float").run(given)
    for name, value in expected.items():
        scale = max(1.0, float(np.abs(value).max()))
        np.testing.assert_allclose(ideal[name], value, atol=1e-4 * scale, rtol=0)
    one = {name: value[:1] for name, value in given.items()}
    fast, reference = (mgc.Simulator(program, engine=e).run(one) for e in ("fast", "reference"))
    for name in expected:
        np.testing.assert_array_equal(fast[name], reference[name])


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_every_onnx_node_is_accounted_for(path):
    program = mgc.compile(path, calibrate="minmax")
    named = {name for names in program.sources for name in names} | set(program.absorbed)
    missing = {node.name for node in onnx.load(path).graph.node if node.name} - named
    assert not missing


def test_dcgan_generator_of_published_size():
    """DCGAN-64: 30,736 row-block reads where zero insertion needs 123,088; nothing useless is mapped."""
    program = mgc.compile(networks.generator(128).SerializeToString(), calibrate="minmax")
    assert program.meta["row_block_mvms"] == 30_736
    assert program.meta["macs_mapped"] == program.meta["macs_useful"]
    assert len(program.instructions) <= 1000
    assert program.entry.schedule.status == "OPTIMAL"


def test_program_without_weights_is_small(tmp_path):
    program = mgc.compile(networks.discriminator(64).SerializeToString(), calibrate="minmax", batch=16)
    program.save(tmp_path / "d.mgc")
    weights = sum(t.nbytes for name, t in program.tensors.items() if name.startswith("group."))
    assert (tmp_path / "d.mgc").stat().st_size - weights < 100_000


def test_same_bytes_again(tmp_path):
    model = networks.generator(16, noise=20).SerializeToString()
    for name in ("a", "b"):
        mgc.compile(model, batch=3).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_coarse_converter_shows(tmp_path):
    """An ADC of 4 bits clips: fewer exact columns, a larger error, the engines still equal."""
    target = tmp_path / "coarse.toml"
    target.write_text(target_toml("liu2018").replace("adc_bits = 8", "adc_bits = 4"))
    assert load_target(target).crossbar.adc_bits == 4
    model = networks.generator(16, noise=20).SerializeToString()
    given, expected = feeds(model, 4)
    errors, exact = {}, {}
    for name in ("liu2018", target):
        program = mgc.compile(model, target=name, calibrate="minmax")
        simulator = mgc.Simulator(program)
        result = simulator.run(given)["image"]
        np.testing.assert_array_equal(result, mgc.Simulator(program, engine="reference").run(given)["image"])
        errors[name], exact[name] = float(np.square(result - expected["image"]).mean()), simulator.exact_columns
    assert exact["liu2018"] == 1.0
    assert exact[target] < 1.0
    assert errors[target] > 4 * errors["liu2018"]


def model_of(nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, t, s) for n, t, s in inputs],
        [helper.make_tensor_value_info(n, t, s) for n, t, s in outputs],
        [numpy_helper.from_array(a, n) for n, a in initializers],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_a_concat_that_changes_its_source_from_position_to_position():
    """Two images joined along their rows: what a channel holds comes from one, then from the other."""
    model = model_of(
        [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Concat", ["a", "x"], ["y"], axis=2)],
        [("x", TensorProto.FLOAT, ["N", 3, 4, 4])],
        [("y", TensorProto.FLOAT, ["N", 3, 8, 4])],
    ).SerializeToString()
    given, expected = feeds(model, 5)
    program = mgc.compile(model, batch=2)
    np.testing.assert_array_equal(mgc.Simulator(program).run(given)["y"], expected["y"])


@pytest.mark.parametrize("method", ["minmax", "error"])
def test_residue_classes_with_different_numbers_of_windows(method):
    """A cropped transposed convolution: its classes are not of one size."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((6, 5, 4, 4)).astype(np.float32) / 8
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 0, 0, 2])
    model = model_of(
        [node],
        [("x", TensorProto.FLOAT, ["N", 6, 5, 5])],
        [("y", TensorProto.FLOAT, ["N", 5, 11, 10])],
        [("w", weights)],
    ).SerializeToString()
    given, expected = feeds(model, 3)
    program = mgc.compile(model, batch=2, calibrate=method)
    ideal = mgc.Simulator(program, numerics="float").run(given)["y"]
    np.testing.assert_allclose(ideal, expected["y"], atol=1e-4)
    quantized = mgc.Simulator(program).run(given)["y"]
    error = np.square(quantized - expected["y"]).mean()
    assert 10 * np.log10(np.ptp(expected["y"]) ** 2 / error) > 30


def test_bfloat16_is_calibrated_by_the_reference_evaluator():
    """ONNX Runtime takes no bfloat16 arrays."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    weights = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    model = model_of(
        nodes, [("x", TensorProto.BFLOAT16, ["N", 4])], [("y", TensorProto.FLOAT, ["N", 3])], [("w", weights)]
    )
    program = mgc.compile(model)
    assert program.inputs[0].dtype == "bfloat16"


def test_outputs_without_a_static_shape():
    """What only the host can know the shape of goes through, beside what the chip computes."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("NonZero", ["r"], ["places"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    weights = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    model = model_of(
        nodes,
        [("x", TensorProto.FLOAT, [2, 4])],
        [("places", TensorProto.INT64, [2, "n"]), ("y", TensorProto.FLOAT, [2, 3])],
        [("w", weights)],
    )
    x = np.array([[1, -1, 2, 0], [0, 3, -2, 1]], np.float32)
    results = mgc.Simulator(mgc.compile(model), numerics="float").run({"x": x})
    np.testing.assert_array_equal(results["places"], np.array(np.nonzero(np.maximum(x, 0))))
    np.testing.assert_allclose(results["y"], x @ weights, rtol=1e-5)


def test_a_program_travels_without_its_model(tmp_path):
    """Bytes in, program out: no path of the model is needed, or kept."""
    model = networks.generator(16, noise=20)
    stream = io.BytesIO(model.SerializeToString())
    mgc.compile(stream.getvalue(), calibrate="minmax").save(tmp_path / "g.mgc")
    program = mgc.Program.load(tmp_path / "g.mgc")
    image = mgc.Simulator(program, engine="reference").run({"z": np.zeros((1, 20, 1, 1), np.float32)})["image"]
    assert image.shape == (1, 3, 64, 64)
