"""Random ops: drawn on the chip by counter, alike in every engine and numerics, off where a network is tested."""

import json
import math
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import mgc
from mgc.compiler import compile_with_stats
from mgc.isa.functions.random import KEY, keys
from mgc.options import CompileOptions
from mgc.sim import Simulator
from mgc.training.data.assign import feeder
from mgc.training.loop import train
from mgc.training.store import Store
from mgc.training.trainee import Trainee

FLOAT = TensorProto.FLOAT


def model(nodes, inputs, outputs, **weights):
    ports = [[helper.make_tensor_value_info(n, t, s) for n, t, s in p] for p in (inputs, outputs)]
    tensors = [onnx.numpy_helper.from_array(np.asarray(w), n) for n, w in weights.items()]
    graph = helper.make_graph(nodes, "g", *ports, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, f"{op}_{outputs[0]}", **attributes)


def alone(op, dims=("N", 50), out=FLOAT, **attributes):
    """One random op on a tensor x."""
    given = [] if op in ("RandomNormal", "RandomUniform") else ["x"]
    last = dims[0]
    width = attributes.get("sample_size", dims[1])
    keep = node("Identity", ["x"], ["same"])
    return model([node(op, given, ["y"], **attributes), keep], [("x", FLOAT, dims)],
                 [("y", out, [last, width]), ("same", FLOAT, dims)])  # fmt: skip


def drawn(source, x, seed=0, batch=4, engine="fast", numerics="float"):
    program = mgc.compile(source, batch=batch, calibrate="minmax")
    simulator = Simulator(program, engine, numerics)
    key = {KEY: keys(seed, 0, len(x))} if any(p.name == KEY for p in program.inputs) else {}
    return simulator.run({"x": x, **key})["y"]


def distance(values, cdf):
    """Kolmogorov and Smirnov's, times the root of the number: above 1.95 once in a thousand times."""
    ordered = np.sort(values.ravel().astype(np.float64))
    n = ordered.size
    expected = np.array([cdf(v) for v in ordered])
    steps = np.arange(n + 1) / n
    return math.sqrt(n) * max(np.max(steps[1:] - expected), np.max(expected - steps[:-1]))


def normal_cdf(mean, deviation):
    return lambda v: 0.5 * math.erfc((mean - v) / deviation / math.sqrt(2))


@pytest.mark.parametrize(
    ("op", "attributes", "cdf"),
    [
        ("RandomNormalLike", {}, normal_cdf(0, 1)),
        ("RandomNormalLike", {"mean": -2.0, "scale": 3.0}, normal_cdf(-2, 3)),
        ("RandomUniformLike", {}, lambda v: min(max(v, 0), 1)),
        ("RandomUniformLike", {"low": -1.0, "high": 3.0}, lambda v: (v + 1) / 4),
    ],
)
def test_numbers_are_distributed_as_said(op, attributes, cdf):
    y = drawn(alone(op, **attributes), np.zeros((400, 50), np.float32))
    assert distance(y, cdf) < 1.95
    assert abs(np.corrcoef(y[:, :-1].ravel(), y[:, 1:].ravel())[0, 1]) < 0.03  # neighbours
    assert abs(np.corrcoef(y[:-1].ravel(), y[1:].ravel())[0, 1]) < 0.03  # samples
    assert len(np.unique(y)) > 0.99 * y.size


@pytest.mark.parametrize(("op", "cdf"), [("RandomNormal", normal_cdf(0, 1)), ("RandomUniform", lambda v: v)])
def test_numbers_of_a_stated_shape(op, cdf):
    y = drawn(alone(op, (200, 50), shape=[200, 50]), np.zeros((200, 50), np.float32), batch=1)
    assert y.shape == (200, 50)
    assert distance(y, cdf) < 1.95


def test_bernoulli_draws_each_element_with_its_probability():
    p = np.linspace(0, 1, 50, dtype=np.float32)
    y = drawn(alone("Bernoulli"), np.tile(p, (2000, 1)))
    assert set(np.unique(y)) == {0.0, 1.0}
    assert np.all(np.abs(y.mean(0) - p) < 4 * np.sqrt(p * (1 - p) / 2000) + 1e-9)


@pytest.mark.parametrize("dtype", [TensorProto.INT32, TensorProto.INT64])
def test_multinomial_draws_classes_by_their_logarithms(dtype):
    p = np.array([0.5, 0.0, 0.2, 0.3])
    with np.errstate(divide="ignore"):
        logs = np.tile(np.maximum(np.log(p), -1e4) + 7, (3000, 1)).astype(np.float32)
    y = drawn(alone("Multinomial", ("N", 4), dtype, sample_size=3, dtype=dtype), logs)
    assert y.dtype == helper.tensor_dtype_to_np_dtype(dtype)
    share = np.bincount(y.ravel(), minlength=4) / y.size
    assert np.all(np.abs(share - p) < 4 * np.sqrt(p * (1 - p) / y.size) + 1e-12)


def dropout(ratio=0.3, training=True):
    return model([node("Dropout", ["x", "r", "t"], ["y"])], [("x", FLOAT, ["N", 50])], [("y", FLOAT, ["N", 50])],
                 r=np.float32(ratio), t=np.bool_(training))  # fmt: skip


def test_dropout_keeps_its_share_and_scales_it():
    y = drawn(dropout(0.3), np.ones((1000, 50), np.float32))
    assert np.allclose(np.unique(y), [0, 1 / 0.7])
    assert abs((y == 0).mean() - 0.3) < 4 * math.sqrt(0.3 * 0.7 / y.size)
    assert np.all(drawn(dropout(0.0), np.ones((3, 50), np.float32)) == 1)
    assert np.all(drawn(dropout(1.0), np.ones((3, 50), np.float32)) == 0)
    assert np.all(drawn(dropout(0.3, False), np.ones((3, 50), np.float32)) == 1)


def test_same_bits_in_every_engine_numerics_and_batch():
    x = np.zeros((7, 50), np.float32)
    for op in ("RandomNormalLike", "RandomUniformLike"):
        first = drawn(alone(op), x)
        for engine in ("fast", "reference"):
            for numerics in ("float", "quantized", "device"):
                assert drawn(alone(op), x, engine=engine, numerics=numerics).tobytes() == first.tobytes()
        assert drawn(alone(op), x, batch=1).tobytes() == first.tobytes()
        assert drawn(alone(op), x[:3]).tobytes() == first[:3].tobytes()
        assert not np.any(drawn(alone(op), x, seed=1) == first)


def test_without_a_key_the_simulators_seed_counts():
    source, x = alone("RandomNormalLike"), np.zeros((7, 50), np.float32)
    program = mgc.compile(source, batch=4)
    for seed in (0, 9):
        assert np.array_equal(Simulator(program, seed=seed).run({"x": x})["y"], drawn(source, x, seed=seed))


def test_two_ops_draw_numbers_of_their_own():
    nodes = [
        node("RandomNormalLike", ["x"], ["a"]),
        node("RandomNormalLike", ["x"], ["b"]),
        node("Sub", ["a", "b"], ["y"]),
    ]
    y = drawn(model(nodes, [("x", FLOAT, ["N", 50])], [("y", FLOAT, ["N", 50])]), np.zeros((400, 50), np.float32))
    assert distance(y, normal_cdf(0, math.sqrt(2))) < 1.95


CHECKED = {
    "RandomNormal": ((3, 50), FLOAT, {"shape": [3, 50], "mean": 1.0}),
    "RandomNormalLike": (("N", 50), FLOAT, {"scale": 2.0}),
    "RandomUniformLike": (("N", 50), FLOAT, {"low": -2.0, "high": 5.0}),
    "Bernoulli": (("N", 50), FLOAT, {}),
    "Multinomial": (("N", 5), TensorProto.INT64, {"sample_size": 4, "dtype": TensorProto.INT64}),
    "Dropout": (("N", 50), FLOAT, {}),
}


@pytest.mark.parametrize("op", CHECKED)
def test_check_reads_the_programs_own_draws(op, tmp_path):
    dims, out, attributes = CHECKED[op]
    source = dropout() if op == "Dropout" else alone(op, dims, out, **attributes)
    onnx.save(source, tmp_path / "m.onnx")
    mgc.compile(tmp_path / "m.onnx", batch=3).save(tmp_path / "m.mgc")
    command = ["run", tmp_path / "m.mgc", "-n", "3", "--seed", "5", "--numerics", "float", "--json"]
    facts = json.loads(cli(*command, "--check", tmp_path / "m.onnx"))
    assert facts["check"]["ok"]
    assert facts["check"]["max_abs_err"] < 1e-5


def cli(*arguments):
    return subprocess.run([sys.executable, "-m", "mgc", *map(str, arguments)], check=True, capture_output=True).stdout


# -- training ----------------------------------------------------------------------------------------------------------

NOTE = "['__main__.Step', 'torch.nn.modules.dropout.Dropout2d', 'aten.%s']"
SCOPE = "['', 'generator.drop', '%s']"


def noted(made, call):
    for key, text in (("class_hierarchy", NOTE), ("name_scopes", SCOPE)):
        made.metadata_props.add(key=f"pkg.torch.onnx.{key}", value=text % call)
    return made


def step_model(spelling):
    """loss = mean over samples of dropout(z V) w: linear in w, so that the loss is w times its own gradient."""
    rng = np.random.default_rng(5)
    weights = {
        "generator.w": rng.normal(size=(6, 1)).astype(np.float32),
        "generator.v": rng.normal(size=(6, 6)).astype(np.float32),
    }
    nodes = [node("MatMul", ["z", "generator.v"], ["h"])]
    if spelling == "op":
        nodes.append(node("Dropout", ["h", "r", "t"], ["d"]))
        weights |= {"r": np.float32(0.4), "t": np.bool_(True)}
    else:  # as the dynamo exporter writes nn.Dropout2d, and F.dropout2d, which is of no module
        weights |= {"zeros": np.zeros((8, 6), np.float32), "p": np.float32(0.6)}
        nodes += [
            noted(node("RandomUniformLike", ["zeros"], ["u"]), "bernoulli.p"),
            noted(node("Less", ["u", "p"], ["l"]), "bernoulli.p"),
            noted(node("Cast", ["l"], ["b"], to=FLOAT), "bernoulli.p"),
            noted(node("Div", ["b", "p"], ["q"]), "div.Scalar"),
            noted(node("Mul", ["h", "q"], ["d"]), "mul.Tensor"),
        ]
        for each in nodes if spelling == "function" else ():
            del each.metadata_props[:]
    nodes += [node("MatMul", ["d", "generator.w"], ["image"]), node("ReduceMean", ["image"], ["loss_g"], keepdims=0)]
    return model(nodes, [("z", FLOAT, [8, 6])], [("loss_g", FLOAT, []), ("image", FLOAT, [8, 1])], **weights)


def trained(spelling, **options):
    return compile_with_stats(
        step_model(spelling), CompileOptions(phases=["generator=loss_g"], optimizer="sgd", lr=0.25, batch=8, **options)
    )


def run_steps(program, folder, steps, seed=0, engine="fast", numerics="float", resume=False):
    trainee = Trainee(Simulator(program, engine, numerics, seed=seed))
    feeds = feeder(trainee.inputs, trainee.batches, 4, seed, None, {"z": DATA})
    with Store(folder, seed, trainee.identity) as store:
        progress = train(trainee, feeds, steps, store, resume)
    return progress.history["loss_g"], {n: np.array(a) for n, a in trainee.state().items()}


DATA = np.random.default_rng(6).normal(size=(32, 6)).astype(np.float32)


@pytest.mark.parametrize("spelling", ["op", "dynamo", "function"])
def test_a_mask_serves_forward_and_backward(spelling, tmp_path):
    program, stats = trained(spelling)
    assert not [w for w in stats.warnings if "dropout" in w.lower()]
    (loss,), state = run_steps(program, tmp_path, 1)
    before = {s.name: program.tensors[s.initial] for s in program.states}
    w = before["generator.w"]
    gradient = (w - state["generator.w"]) / 0.25
    assert loss == pytest.approx(float((w * gradient).sum()), rel=1e-4)
    plain = (DATA[:8] @ before["generator.v"] @ w).mean()
    assert abs(loss - plain) > 0.01  # it did drop something


def test_resumed_training_draws_on(tmp_path):
    program, _ = trained("op")
    for numerics in ("float", "quantized"):
        runs = {}
        for engine in ("fast", "reference"):
            whole = run_steps(program, tmp_path / f"{numerics}{engine}", 4, 3, engine, numerics)
            run_steps(program, tmp_path / f"half{numerics}{engine}", 2, 3, engine, numerics)
            halves = run_steps(program, tmp_path / f"half{numerics}{engine}", 4, 3, engine, numerics, resume=True)
            assert halves[0] == whole[0]
            assert all(halves[1][n].tobytes() == a.tobytes() for n, a in whole[1].items())
            runs[engine] = whole
        assert runs["fast"][0] == pytest.approx(runs["reference"][0], rel=1e-5 if numerics == "float" else 0)
        other = run_steps(program, tmp_path / f"other{numerics}", 4, 4, "fast", numerics)
        assert other[0] != runs["fast"][0]


@pytest.mark.parametrize("spelling", ["op", "dynamo", "function"])
def test_dropout_is_off_where_the_network_is_tested(spelling):
    program, _ = trained(spelling)
    assert [p.name for p in program.part("testing").inputs] == ["z"]
    weights = {s.name: program.tensors[s.initial] for s in program.states}
    (image,) = Simulator(program, numerics="float").run({"z": DATA[:8]}).values()
    np.testing.assert_allclose(image, DATA[:8] @ weights["generator.v"] @ weights["generator.w"], rtol=1e-4, atol=1e-5)
