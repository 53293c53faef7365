"""Training programs on the reference engine: products against NumPy, a GAN against NumPy, states that survive."""

import random
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from builder import ProgramBuilder
from hypothesis import given, settings
from training_programs import DENSE, EXACT, RandomConvolution, TinyGan, coded, real_of

from mgc.functions.codes import in_steps
from mgc.isa.crossbar import Arithmetic, encode_weights
from mgc.isa.instructions import Update
from mgc.isa.program import Program
from mgc.isa.schedule import Schedule
from mgc.isa.transposed import transposed_product
from mgc.sim import SimulationError, Simulator

LOSSY = Arithmetic(4, 24, 2, 2, 3, "clip", "offset", 6, 5)


def reference(program, numerics="quantized"):
    return Simulator(program, engine="reference", numerics=numerics)


def windows_of(c, x):
    """The text of MVM, window by window: [(sample, matrix, window, output position)] -> [rows] of input indices."""
    w = c.windows
    found = {}
    for n, g in np.ndindex(c.batch, c.matrices):
        for q in np.ndindex(*c.count):
            rows = []
            for k in range(c.rows):
                channel, t = divmod(k, c.rows // c.channels) if w["tap_fastest"] else divmod(k, c.channels)[::-1]
                tap = np.unravel_index(t, c.taps) if c.taps else ()
                at = [b + i * s + j * d for b, i, s, j, d in
                      zip(w["in_base"], q, w["in_stride"], tap, w["in_dilation"], strict=True)]  # fmt: skip
                inside = all(0 <= a < e for a, e in zip(at, x.shape[2:], strict=True))
                rows.append((n, g * c.channels + channel, *at) if inside else None)
            to = [b + i * s for b, i, s in zip(w["out_base"], q, w["out_stride"], strict=True)]
            found[n, g, q] = (rows, to)
    return found


@settings(deadline=None, max_examples=60)
@given(st.randoms(use_true_random=False), st.sampled_from(["quantized", "float"]))
def test_products_against_a_loop_over_windows(rng, numerics):
    c = RandomConvolution(rng, EXACT, None)
    feeds = c.inputs()
    out = reference(c.program, numerics).run(feeds)
    x, dy = (feeds[n].astype(np.int64) for n in ("x", "dy"))
    weights = c.steps if numerics == "quantized" else c.real.astype(np.float64)
    dx, dw = np.zeros(c.src, weights.dtype), np.zeros((c.matrices, c.rows, c.cols), np.int64)
    for (n, g, _), (rows, to) in windows_of(c, x).items():
        for k, place in enumerate(rows):
            if place is not None:
                for column in range(c.cols):
                    error = dy[(n, g * c.cols + column, *to)]
                    dx[place] += error * weights[g, k, column]
                    dw[g, k, column] += error * x[place]
    assert np.array_equal(out["dw"], dw.astype(np.float32))
    if numerics == "quantized":
        assert np.array_equal(out["dx"], dx.astype(np.float32))
    else:
        np.testing.assert_allclose(out["dx"], dx, rtol=1e-6, atol=1e-3)


@settings(deadline=None, max_examples=60)
@given(st.randoms(use_true_random=False), st.sampled_from(["quantized", "float"]))
def test_transposed_reads_are_adjoint(rng, numerics):
    """<MVM(x), dy> = <x, MVM_T(dy)> = <w, OUTER(x, dy)>."""
    c = RandomConvolution(rng, EXACT, None)
    feeds = c.inputs()
    y, dx, dw = (out.astype(np.float64) for out in reference(c.program, numerics).run(feeds).values())
    weights = c.steps if numerics == "quantized" else c.real
    products = [np.vdot(y, feeds["dy"]), np.vdot(feeds["x"], dx), np.vdot(weights, dw)]
    size = np.abs(weights).sum() * np.abs(feeds["x"]).max() * np.abs(feeds["dy"]).max()
    np.testing.assert_allclose(products, products[0], rtol=1e-6, atol=1e-6 * size)


@settings(deadline=None, max_examples=40)
@given(st.randoms(use_true_random=False))
def test_lossy_transposed_reads_go_through_the_adc(rng):
    """Each window's sums are those of the transposed arithmetic, then added up."""
    c = RandomConvolution(rng, LOSSY, None)
    feeds = c.inputs()
    out = reference(c.program).run(feeds)["dx"]
    dy, dx = feeds["dy"].astype(np.int64), np.zeros(c.src, np.int64)
    cells = encode_weights(c.steps, LOSSY)
    for (n, g, _), (rows, to) in windows_of(c, feeds["x"]).items():
        errors = np.array([[dy[(n, g * c.cols + column, *to)] for column in range(c.cols)]])
        sums = transposed_product(errors, cells[g], LOSSY, True)[0]
        for k, place in enumerate(rows):
            if place is not None:
                dx[place] += sums[k]
    assert np.array_equal(out, dx.astype(np.float32))


def test_samples_in_chunks(monkeypatch):
    drawn = (RandomConvolution(random.Random(seed), EXACT, None) for seed in range(99))
    c = next(c for c in drawn if c.batch == 3 and c.windows["count"])
    feeds = c.inputs()
    whole = reference(c.program).run(feeds)
    monkeypatch.setattr("mgc.isa.instructions.training.CHUNK", 1)
    assert all(np.array_equal(a, whole[n]) for n, a in reference(c.program).run(feeds).items())


def test_parts_add_up():
    """Two groups (as of the residue classes of a transposed convolution) give the input gradient of one layer."""
    rng = np.random.default_rng(0)
    b = ProgramBuilder(micro_batch=2, micro_batches=1, batched=False)
    weights = rng.integers(-99, 100, (2, 1, 6, 3))
    dy = rng.integers(-128, 128, (2, 3, 8))
    source = b.input((2, 3, 8), dtype="int8", name="dy", batched=False)
    b.buffers[source.index] = replace(b.buffers[source.index], kind="code")
    acc = b.buffer("acc", "int64", (2, 2, 6))
    geometry = [{"count": (4,), "taps": (3,), "in_base": (-1,), "in_stride": (1,), "in_dilation": (1,),
                 "out_base": (r,), "out_stride": (2,)} for r in range(2)]  # fmt: skip
    for r in range(2):
        group = b.group(weights[r].astype(np.int16), weights[r] * 0.5, EXACT, weight_scale=0.5)
        b.mvm_t(group, source, acc, True, accumulate=r > 0, **geometry[r])
    k = b.kernel()
    one = b.constant(np.float32(1))
    y = k.store(k.step("dequant_by", acc, one, one, attributes=(1.0,)))
    k.emit()
    b.output(y, batched=False, name="dx")
    expected = np.zeros((2, 2, 6), np.int64)
    for r, n, q, t in np.ndindex(2, 2, 4, 3):
        if 0 <= q + t - 1 < 6:
            expected[n, :, q + t - 1] += dy[n, :, r + 2 * q] @ weights[r, 0].reshape(2, 3, 3)[:, t].T
    out = reference(b.build()).run({"dy": dy.astype(np.int8)})["dx"]
    assert np.array_equal(out, expected)


def in_numpy(gan, inputs, kept, quantized):
    """One iteration of TinyGan: (losses, new states); codes, integers and roundings as the program has them."""
    f4, f8 = np.float32, np.float64

    def code(x):
        if not quantized:
            return x.astype(f8), f4(1)
        most = np.abs(x).max()
        scale = f4(1) if most == 0 else most / f4(127)
        return np.clip(np.rint(x / scale), -128, 127).astype(np.int64), scale

    def weight(name):
        if not quantized:
            return kept[name].astype(f8), 1.0
        return np.rint(kept[name].astype(f8) / gan.scale[name]).astype(np.int64), gan.scale[name]

    def product(a, b, s1, s2, factor):
        if not quantized:
            return (a @ b).astype(f4)
        return ((a @ b).astype(f8) * (f8(s1) * f8(s2) * factor)).astype(f4)

    def loss(scores, target):
        off = scores - f4(target)
        return f4(np.mean((off * off).astype(f8))), off * f4(2 / gan.batch)

    def keep(name, new):
        if quantized:
            steps = np.clip(np.rint(new.astype(f8) / gan.scale[name]), -32767, 32767)
            new = (steps * gan.scale[name]).astype(f4)
        kept[name] = new

    kept = {name: value.copy() for name, value in kept.items()}
    (x, sx), (z, sz) = code(inputs["x"]), code(inputs["z"])
    g, g_scale = weight("g")
    fake = product(z, g, sz, 1, g_scale) + kept["b"]
    f, sf = code(fake)
    d, d_scale = weight("d")
    real_loss, real_delta = loss(product(x, d, sx, 1, d_scale), 1)
    fake_loss, fake_delta = loss(product(f, d, sf, 1, d_scale), 0)
    (er, ser), (ef, sef) = code(real_delta), code(fake_delta)
    grad = product(x.T, er, sx, ser, 1.0) + product(f.T, ef, sf, sef, 1.0)
    t = kept["steps"] = kept["steps"] + 1
    m = kept["d.adam.m"] = f4(0.5) * kept["d.adam.m"] + f4(0.5) * grad
    v = kept["d.adam.v"] = f4(0.999) * kept["d.adam.v"] + f4(1 - 0.999) * (grad * grad)
    root = np.sqrt(v) * f4((1 - 0.999 ** int(t)) ** -0.5) + f4(1e-8)
    keep("d", kept["d"] - f4(gan.LR / (1 - 0.5 ** int(t))) * (m / root))
    d, d_scale = weight("d")
    g_loss, delta = loss(product(f, d, sf, 1, d_scale), 1)
    e, se = code(delta)
    back = product(e, d.T, se, 1, d_scale)
    eb, seb = code(back)
    momentum = kept["g.momentum"] = f4(0.9) * kept["g.momentum"] + product(z.T, eb, sz, seb, 1.0)
    keep("g", kept["g"] - f4(gan.LR) * momentum)
    total = back.T.astype(f8).copy()
    kept["b"] = np.clip(kept["b"] - f4(gan.LR) * np.add.reduce(total, axis=-1).astype(f4), f4(-0.2), f4(0.2))
    return {"loss_d": real_loss + fake_loss, "loss_g": g_loss}, kept


@pytest.mark.parametrize("numerics", ["quantized", "float"])
def test_a_gan_trains_as_numpy_does(numerics):
    gan = TinyGan()
    simulator = reference(gan.program, numerics)
    kept = simulator.states()
    assert kept["steps"] == 0
    if numerics == "float":
        assert np.array_equal(kept["g"], gan.g)
    for k in range(3):
        inputs = gan.inputs(k)
        losses, kept = in_numpy(gan, inputs, kept, numerics == "quantized")
        found = simulator.run_iteration(inputs)
        states = simulator.states()
        assert list(found) == ["loss_d", "loss_g"]
        assert set(states) == set(kept)
        for name, value in {**losses, **kept}.items():
            got = found[name] if name in found else states[name]
            if numerics == "quantized":
                assert np.array_equal(got, value), (k, name)
            else:
                np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-6, err_msg=name)
        assert states["steps"] == k + 1


def test_quantized_follows_float():
    gan = TinyGan(seed=3, batch=16)
    fine, rough = reference(gan.program, "float"), reference(gan.program)
    for k in range(10):
        exact, found = fine.run_iteration(gan.inputs(k)), rough.run_iteration(gan.inputs(k))
        for name in exact:
            assert abs(exact[name] - found[name]) < 0.05 * (1 + abs(exact[name]))
    moved = {n: np.abs(fine.states()[n] - a).max() for n, a in (("g", gan.g), ("d", gan.d), ("b", gan.b))}
    assert min(moved.values()) > 0.01


@pytest.mark.parametrize("numerics", ["quantized", "float"])
def test_states_come_back_to_the_bit(numerics, tmp_path):
    gan = TinyGan(seed=1)
    gan.program.save(tmp_path / "gan.mgc")
    alone = reference(gan.program, numerics)
    for k in range(4):
        alone.run_iteration(gan.inputs(k))
    middle = alone.states()
    held = {name: value.copy() for name, value in middle.items()}
    late = [alone.run_iteration(gan.inputs(k)) for k in range(4, 7)]
    resumed = reference(Program.load(tmp_path / "gan.mgc"), numerics)
    resumed.run_iteration(gan.inputs(99))
    resumed.load_states(middle)
    for value in middle.values():
        value[...] = 0  # the caller's own
    assert all(np.array_equal(a, held[n]) for n, a in resumed.states().items())
    for k, expected in zip(range(4, 7), late, strict=True):
        assert resumed.run_iteration(gan.inputs(k)) == expected
    for name, value in alone.states().items():
        assert np.array_equal(resumed.states()[name], value)
        assert resumed.states()[name].dtype == value.dtype == (np.int64 if name == "steps" else np.float32)


@settings(deadline=None, max_examples=40)
@given(st.randoms(use_true_random=False), st.sampled_from(["quantized", "float"]),
       st.sampled_from(["sgd", "momentum", "adam", "rmsprop"]))  # fmt: skip
def test_states_of_any_layout(rng, numerics, optimizer):
    """Weights in crossbars are shown in the model's shape; a restored run goes on as the one it was taken from."""
    c = RandomConvolution(rng, EXACT, optimizer)
    first, second = reference(c.program, numerics), reference(c.program, numerics)
    assert np.array_equal(first.states()["w"], c.in_model(c.real))
    feeds = [c.inputs() for _ in range(3)]
    first.run(feeds[0])
    second.load_states(first.states())
    for f in feeds[1:]:
        a, b = first.run(f), second.run(f)
        assert all(np.array_equal(a[n], b[n]) for n in a)
    assert all(np.array_equal(value, second.states()[n]) for n, value in first.states().items())


def test_the_first_update_of_a_group():
    c = RandomConvolution(random.Random(5), EXACT, "sgd")
    feeds = c.inputs()
    simulator = reference(c.program)
    dw = simulator.run(feeds)["dw"]
    update = next(i for i in c.program.instructions if isinstance(i, Update))
    w = c.real - np.float32(0.1) * dw
    if update.lo > -np.inf:
        w = np.clip(w, np.float32(update.lo), np.float32(update.hi))
    expected = (in_steps(w, c.scale, 16) * c.scale).astype(np.float32)
    assert np.array_equal(simulator.states()["w"], c.in_model(expected))


def test_a_run_that_stops_leaves_the_states():
    gan = TinyGan()
    simulator = reference(gan.program)
    simulator.run_iteration(gan.inputs(0))
    before = simulator.states()
    bad = gan.inputs(1)
    bad["x"][0, 0] = np.inf
    with pytest.raises(SimulationError, match=r"update.*gradient of d is not finite|loss_d is not finite"):
        simulator.run_iteration(bad)
    assert all(np.array_equal(value, before[n]) for n, value in simulator.states().items())


def test_numbers_that_are_not_finite_stop_the_run():
    gan = TinyGan()
    simulator = reference(gan.program, "float")
    kept = simulator.states()
    kept["steps"][...] = -1
    simulator.load_states(kept)
    with pytest.raises(SimulationError, match=r"instruction \d+ \(update\).*the number of the step is 0; it counts"):
        simulator.run_iteration(gan.inputs(0))
    kept["steps"][...] = 0
    kept["d.adam.m"][...] = np.float32(3e38)
    simulator.load_states(kept)
    with pytest.raises(SimulationError, match=r"\(update\), which computes node\d+: the gradient of g is not finite"):
        simulator.run_iteration(gan.inputs(0))
    kept["d.adam.m"][...] = 0
    kept["g.momentum"][...] = np.float32(-3.4e38)
    kept["g"][...] = np.float32(3.4e38)
    simulator.load_states(kept)
    with pytest.raises(SimulationError, match="not finite"):
        simulator.run_iteration(gan.inputs(0))


def test_exactness_is_of_the_weights_as_they_are():
    rng = random.Random(2)
    c = RandomConvolution(rng, replace(EXACT, adc_bits=5), "sgd")
    while c.rows < 11:  # rows of 2-bit cells that can overrun a 5-bit ADC
        c = RandomConvolution(rng, replace(EXACT, adc_bits=5), "sgd")
    simulator = reference(c.program)
    before, states = simulator.exact_columns, simulator.states()
    for weight, exact in ((32767, 0), (0, 1), (1, 1)):
        states["w"][...] = np.float32(weight * c.scale)
        simulator.load_states(states)
        assert simulator.exact_columns == exact
        assert simulator.exact_rows == 1
    assert reference(c.program, "float").exact_columns == before
    assert reference(RandomConvolution(rng, replace(EXACT, adc_bits=1), None).program).exact_rows < 1


def test_wrong_states_are_refused():
    simulator = reference(TinyGan().program)
    good = simulator.states()
    for change, message in (
        ({"extra": np.zeros(1)}, "state extra is unknown; the program's states are b, d, d.adam.m"),
        ({"g": None}, "state g is missing"),
        ({"g": np.zeros((2, 2), np.float32)}, r"state g is float32\[2, 2\], float32\[3, 5\] is expected"),
        ({"g": good["g"].astype(np.float64)}, r"float64\[3, 5\], float32"),
        ({"steps": np.float32(0)}, r"state steps is float32\[\], int64\[\]"),
        ({"g": good["g"] * np.float32(np.nan)}, "state g has weights that are not finite"),
    ):
        states = {n: v for n, v in {**good, **change}.items() if v is not None}
        with pytest.raises(SimulationError, match=message):
            simulator.load_states(states)
        assert all(np.array_equal(value, good[n]) for n, value in simulator.states().items())


def test_programs_that_do_not_train():
    b = ProgramBuilder()
    b.output(b.input((1, 2)))
    simulator = reference(b.build())
    assert simulator.states() == {}
    simulator.load_states({})
    with pytest.raises(SimulationError, match="changes no state, so there is nothing to train"):
        simulator.run_iteration({"in0": np.zeros((1, 2), np.float32)})


def inference(weight_scale):
    """A batched program y = x @ w + b whose weights are states."""
    rng = np.random.default_rng(0)
    b = ProgramBuilder()
    x = b.input((1, 4))
    k = b.kernel()
    codes = k.store(k.step("quant_by", x, b.constant(np.float32(0.02)), attributes=(-128, 127, 3)), "code")
    k.emit()
    w = (rng.integers(-300, 300, (4, 2)) * 0.01).astype(np.float32)
    group = b.group(in_steps(w, 0.01, 16).astype(np.int16)[None], w[None], EXACT, weight_scale=weight_scale)
    b.state("w", "parameter", w, group)
    bias = b.kept("b", "parameter", rng.standard_normal(2).astype(np.float32))
    acc = b.buffer("acc", "int64", (1, 2))
    b.mvm(group, codes, acc, True, **DENSE)
    k = b.kernel()
    one = b.constant(np.float32(1))
    scaled = k.step("dequant_by", acc, b.constant(np.float32(0.02)), one, attributes=(0.01,))
    y = k.store(k.step("add", scaled, bias))
    k.emit()
    b.output(y)
    return b.build()


@pytest.mark.parametrize("numerics", ["quantized", "float"])
def test_inference_with_trained_weights(numerics):
    """Testing uses the same states: weights replaced, samples still side by side."""
    simulator = reference(inference(0.01), numerics)
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    trained = {"w": np.array([[1, 2], [3, 4], [-1, 0.5], [0, 0]], np.float32), "b": np.array([1, -1], np.float32)}
    before = simulator.run({"in0": x})["out0"]
    simulator.load_states(trained)
    after = simulator.run({"in0": x})["out0"]
    np.testing.assert_allclose(after, x @ trained["w"] + trained["b"], atol=0.2 if numerics == "quantized" else 1e-5)
    assert np.abs(after - before).max() > 0.5
    assert np.array_equal(simulator.run({"in0": x[3:]})["out0"], after[3:])


def test_weights_without_a_scale_have_no_real_value():
    program = inference(0.0)
    with pytest.raises(SimulationError, match="group g0 has no weight scale"):
        reference(program).states()
    assert np.array_equal(reference(program, "float").states()["w"], program.tensors["state.w"])


def test_the_entry_for_testing_is_what_runs():
    b = ProgramBuilder(micro_batches=1, batched=False)
    group = b.group(np.ones((1, 2, 3), np.int16), np.ones((1, 2, 3), np.float32), EXACT, weight_scale=1.0)
    codes = coded(b, b.input((1, 2), name="x", batched=False))
    acc = b.buffer("acc", "int64", (1, 3))
    b.mvm(group, codes[0], acc, True, **DENSE)
    b.output(real_of(b, acc, codes[1], None, 1.0), batched=False, name="y")
    program = b.build()
    only = program.entry
    empty = Schedule(np.zeros((0, 1), np.int64), "OPTIMAL", 0, 0)
    nothing = replace(only, id=1, name="nothing", first=only.stop, schedule=empty)
    whole = replace(program, entries=(only, nothing))
    feeds = {"x": np.array([[1, 2]], np.float32)}
    for runs in (whole, whole.part("testing")):
        assert np.array_equal(reference(runs).run(feeds)["y"], reference(program).run(feeds)["y"])
