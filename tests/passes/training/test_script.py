"""What a script does with its values between phases and iterations: the right values, by numerical differentiation."""

import numpy as np
import pytest
from oracle import DATA
from scripted import BATCH, Follower, critic, detach, feeds, gan, model, node, squares

import mgc
from mgc.compiler import compile_with_stats
from mgc.ir.training import Penalty
from mgc.options import CompileOptions
from mgc.passes.manager import UnsupportedError
from mgc.passes.training.script import parse_penalty
from mgc.training.noise import generator

RATE = 0.2
ITERATIONS = 3
BOTH = ["generator=loss_g", "discriminator=loss_d"]


def trained(proto, phases=BOTH, first=None, numerics="float", **options):
    """(history, states, warnings) by the compiler."""
    given = CompileOptions(phases=phases, optimizer="sgd", lr=RATE, batch=BATCH, **options)
    program, stats = compile_with_stats(proto, given)
    carried = list(first or {})
    data = feeds(proto, ITERATIONS, carried)
    inputs = {name: np.concatenate([d[name] for d in data]) for name in data[0]}
    simulator = mgc.Simulator(program, numerics=numerics)
    progress = simulator.train(inputs={**inputs, **(first or {})}, steps=ITERATIONS)
    return progress.history, simulator.states(), [w for w in stats.warnings if "no effect" not in w]


def check(proto, follower, first=None, **options):
    history, states, warnings = trained(proto, first=first, **options)
    follower.carried = {n: np.asarray(v, np.float64) for n, v in (first or {}).items()}
    for i, feed in enumerate(feeds(proto, ITERATIONS, list(first or {}))):
        for name, value in follower.iterate(feed).items():
            assert history[name][i] == pytest.approx(float(value), rel=1e-4, abs=1e-7), (name, i)
    for name, value in follower.state.items():
        if name in states:
            np.testing.assert_allclose(states[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    for name, value in follower.carried.items():
        np.testing.assert_allclose(states[name], value, rtol=1e-4)
    return history, states, warnings


def following(phases=BOTH, **rules):
    def make(proto):
        return Follower(proto, [(*p.split(",")[0].split("="), RATE) for p in phases], **rules)

    return make


def test_a_value_made_once_is_that_of_the_first_phase():
    proto = gan()
    _, once, warnings = check(proto, following(once=["fake"], reported=["loss_fake"])(proto), once=["fake"])
    assert not warnings
    _, anew, (warning,) = check(proto, following(reported=["loss_fake"])(proto))
    assert "phase discriminator computes fake anew" in warning
    assert warning.endswith("wants --once fake (docs/training.md)")
    assert not np.allclose(once["discriminator.a"], anew["discriminator.a"], rtol=1e-3)


def test_an_inner_value_can_be_made_once():
    """What is made once is a constant afterwards, even for the phase that trains what it is made of."""
    phases = ["discriminator=loss_d", "generator=loss_g"]
    proto = gan()
    _, states, _ = check(proto, following(phases, once=["pre"])(proto), phases=phases, once=["pre"])
    np.testing.assert_array_equal(states["generator.w"], follower_start(proto, "generator.w"))


def follower_start(proto, name):
    return following()(proto).state[name].astype(np.float32)


def test_phases_that_share_the_old_weights_are_the_script_that_makes_its_samples_once():
    proto = gan()
    *_, warnings = check(proto, following(once=["fake"])(proto), dataflow="shared")
    assert not warnings
    *_, (warning,) = trained(proto, ["discriminator=loss_d", "generator=loss_g"], dataflow="shared")
    assert "phase generator sees discriminator before its update" in warning


@pytest.mark.parametrize("phases", [BOTH, BOTH[::-1]])
def test_only_samples_are_unsettled(phases):
    """The generator's step through the discriminator is none, in whatever order."""
    *_, warnings = trained(gan(), phases)
    assert len([w for w in warnings if "--once" in w]) == (phases == BOTH)


def own_detach(exported=True):
    """The generator's loss compares with its own samples, detached."""
    more = [
        detach("fake", "target") if exported else node("Identity", "fake", "target"),
        node("Sub", "again target", "apart"),
        node("Mul", "apart apart", "apart.square"),
        node("ReduceMean", "apart.square", "near", keepdims=0),
        node("Add", "loss_g near", "loss_own"),
    ]
    return gan(nodes=more, outputs={"loss_own": [], "near": []})


PHASES = ["generator=loss_own", "discriminator=loss_d"]


def test_a_detach_in_the_own_loss_is_honoured():
    proto = own_detach()
    follower = following(PHASES, once=["fake"], reported=["near", "loss_g", "loss_fake"])(proto)
    _, cut, _ = check(proto, follower, phases=PHASES, once=["fake"])
    _, whole, _ = trained(own_detach(False), PHASES, once=["fake"])
    assert not np.allclose(cut["generator.w"], whole["generator.w"], rtol=1e-3)


def test_gradients_stop_at_a_value_by_name():
    proto = own_detach(False)
    follower = following(PHASES, once=["fake"], stopped=["target"])(proto)
    check(proto, follower, phases=PHASES, once=["fake"], stop_gradient=["target"])
    with pytest.raises(UnsupportedError, match="the model has no value 'targe'; there are target"):
        trained(proto, PHASES, stop_gradient=["targe"])
    with pytest.raises(UnsupportedError, match="the model has no value 'fak'; there are fake"):
        trained(proto, PHASES, once=["fak"])


@pytest.mark.parametrize("once", [["fake"], []])
def test_groups_may_overlap(once):
    """InfoGAN's third phase trains both networks; each phase updates what its own loss reaches, with its own rate. The
    second phase may have read what the third one trains.
    """
    more = [*squares("again", "zero", "loss_info")]
    proto = gan(nodes=more, outputs={"loss_info": []})
    phases = [*BOTH, "info=loss_info"]
    groups = {"info": ["generator.*", "discriminator.b"]}
    check(proto, following(phases, groups=groups, once=once)(proto), phases=phases, groups=groups, once=once)


def test_each_phase_has_moments_and_counts_of_its_own():
    more = [*squares("again", "zero", "loss_info")]
    proto = gan(nodes=more, outputs={"loss_info": []})
    options = {"phases": [*BOTH, "info=loss_info"], "groups": {"info": ["generator.*"]}, "optimizer": "adam"}
    program = mgc.compile(proto, batch=BATCH, **options)
    names = {s.name for s in program.states}
    assert {"generator.w.adam.m", "generator.w.info.adam.m", "info.steps", "generator.steps"} <= names


def balanced():
    """BEGAN's balance: a scalar that one iteration hands to the next, made of both phases' values."""
    more = [
        node("Mul", "k loss_fake", "weighed"),
        node("Sub", "loss_real weighed", "loss_k"),
        node("Sub", "loss_real loss_fake", "gap"),
        node("Mul", "gap rate", "moved"),
        node("Add", "k moved", "k_next"),
        node("Add", "gap loss_g", "measure"),
    ]
    outputs = {"loss_k": [], "k_next": [], "measure": []}
    return gan(nodes=more, inputs={"k": []}, outputs=outputs, weights={"rate": np.array(0.05)})


CARRIED = {"k": np.array(0.25, np.float32)}
BALANCED = ["generator=loss_g", "discriminator=loss_k"]


def test_a_value_is_carried_to_the_next_iteration():
    proto = balanced()
    rules = {"once": ["fake"], "carry": {"k": "k_next"}, "reported": ["measure", "k_next", "loss_fake"]}
    follower = following(BALANCED, **rules)(proto)
    check(proto, follower, CARRIED, phases=BALANCED, once=["fake"], carry=["k=k_next"])


@pytest.mark.parametrize("numerics", ["float", "quantized"])
def test_what_is_carried_is_in_checkpoints(tmp_path, numerics):
    proto = balanced()
    program = mgc.compile(proto, phases=BALANCED, optimizer="adam", batch=BATCH, once=["fake"], carry=["k=k_next"])
    data = feeds(proto, 4, ["k"])
    inputs = {name: np.concatenate([d[name] for d in data]) for name in data[0]} | CARRIED

    def run(steps, folder, **more):
        simulator = mgc.Simulator(program, numerics=numerics)
        progress = simulator.train(inputs=inputs, steps=steps, checkpoint=folder, **more)
        return progress.history, simulator.states()

    history, states = run(4, tmp_path / "whole")
    run(2, tmp_path / "halves")
    again, same = run(4, tmp_path / "halves", resume=True)
    assert again == history
    for name, value in states.items():
        np.testing.assert_array_equal(same[name], value)
    assert states["k"] != CARRIED["k"]
    with pytest.raises(ValueError, match=r"first value of k .*: give --input k=FILE\.npy"):
        mgc.Simulator(program).train(inputs={n: v for n, v in inputs.items() if n != "k"}, steps=4)


def test_what_cannot_be_carried_or_named():
    proto = balanced()
    for options, message in (
        ({"carry": ["q=k_next"]}, "--carry q=k_next: the model's inputs are z, x, k"),
        ({"carry": ["k=fake"]}, "k is f32.*, fake is f32.*: not alike"),
        ({"carry": ["k"]}, "write INPUT=OUTPUT"),
        ({"once": ["z"]}, "--once z: it is an input"),
        ({"order": ["a", "b"]}, "--order goes with --discriminator"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            trained(proto, BALANCED, first=CARRIED, **options)


def test_a_network_as_it_was_before_its_update():
    """BicycleGAN: the encoder steps first; then the generator's loss has the codes made before and, of its own samples,
    those made after.
    """
    nodes = [
        node("MatMul", "x encoder.w", "codes"),
        node("MatMul", "codes generator.w", "again"),
        *squares("again", "x", "loss_e"),
        node("MatMul", "z generator.w", "fresh"),
        node("MatMul", "fresh encoder.w", "back"),
        *squares("back", "z", "latent"),
        node("Add", "loss_e latent", "loss_g"),
    ]
    inputs, outputs = {"z": [BATCH, 3], "x": [BATCH, 4]}, {"loss_e": [], "loss_g": [], "latent": []}
    proto = model(nodes, inputs, outputs, {"encoder.w": (4, 3), "generator.w": (3, 4)})
    phases = ["encoder=loss_e", "generator=loss_g"]
    follower = following(phases, once=["codes"], reported=["latent"])(proto)
    *_, warnings = check(proto, follower, phases=phases, once=["codes"])
    assert not warnings
    *_, (warning,) = trained(proto, phases)
    assert "--once codes" in warning


PENALTIES = {
    "loss_d:real:x": lambda norm: np.mean((norm - 1) ** 2) * 10,
    "loss_d:real:x,center=0,weight=3": lambda norm: np.mean(norm**2) * 3,
    "loss_d:real:x,center=0,p=6,weight=2": lambda norm: np.mean(norm**6) * 2,
    "loss_d:real:x,p=1,sides=one,weight=5": lambda norm: np.mean(np.maximum(norm - 1, 0)) * 5,
}


@pytest.mark.parametrize("text", PENALTIES)
def test_a_penalty_on_the_slope(text):
    """The loss with its penalty, and its own gradient, from differences of differences."""
    proto = gan()
    follower = following(once=["fake"])(proto)

    def loss_d(feed, constant):
        norms = []
        for b in range(BATCH):
            slopes = []
            for k in range(4):
                ends = []
                for sign in (1, -1):
                    x = feed["x"].astype(np.float64).copy()
                    x[b, k] += sign * 1e-4
                    ends.append(float(follower.evaluate({**feed, "x": x}, ["real"], constant)["real"].sum()))
                slopes.append((ends[0] - ends[1]) / 2e-4)
            norms.append(np.sqrt(np.sum(np.square(slopes))))
        plain = float(follower.evaluate(feed, ["loss_d"], constant)["loss_d"])
        return plain + PENALTIES[text](np.array(norms))

    (feed,) = feeds(proto, 1)
    program = mgc.compile(proto, phases=BOTH, optimizer="sgd", lr=RATE, batch=BATCH, once=["fake"], penalty=[text])
    simulator = mgc.Simulator(program, numerics="float")
    history = simulator.train(inputs=feed, steps=1).history
    fake = follower.evaluate(feed, ["fake"], {})
    assert history["loss_d"][0] == pytest.approx(loss_d(feed, fake), rel=1e-4)
    for name in ("discriminator.a", "discriminator.b"):
        start, slope = follower.state[name], np.zeros_like(follower.state[name])
        for at in np.ndindex(start.shape):
            ends = []
            for sign in (1, -1):
                follower.state[name] = start.copy()
                follower.state[name][at] += sign * 1e-4
                ends.append(loss_d(feed, fake))
            slope[at] = (ends[0] - ends[1]) / 2e-4
        follower.state[name] = start
        np.testing.assert_allclose(simulator.states()[name], start - RATE * slope, rtol=1e-3, atol=1e-5)


def test_penalties_as_they_are_written():
    assert parse_penalty("l:s:x") == Penalty("l", "s", "x", 1.0, 2.0, 10.0, False)
    assert parse_penalty("l:s:x, center=0,p=6,weight=2,sides=one") == Penalty("l", "s", "x", 0.0, 6.0, 2.0, True)
    for text, message in (
        ("l:s", "write LOSS:SCORE:INPUT"),
        ("l:s:x,centre=1", "'centre=1' is none of"),
        ("l:s:x,sides=three", "'sides=three' is no value of sides"),
        ("l:s:x,center=2", "center is 1 or 0"),
        ("l:s:x,p=2,p=3", "p is given twice"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            parse_penalty(text)
    with pytest.raises(UnsupportedError, match="real does not depend on z"):
        mgc.compile(gan(), phases=BOTH, optimizer="sgd", batch=BATCH, penalty=["loss_d:real:z"])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_loss_is_switched_on_later(tmp_path, optimizer):
    """ESRGAN: the generator warms up on another loss; then its own takes over, with its moments, and the critic steps.

    What the second loss reaches first begins to count there, as in an optimizer of PyTorch.
    """
    both = [*squares("fake", "zero", "warm"), node("Add", "loss_g warm", "loss_both")]
    proto = gan(nodes=both, outputs={"warm": [], "loss_both": []})
    phases = ["generator=warm", "generator=loss_both,from=2", "discriminator=loss_d,from=2"]
    options = {"optimizer": optimizer, "lr": RATE, "batch": BATCH, "once": ["fake"]}
    program = mgc.compile(proto, phases=phases, **options)
    data = feeds(proto, 4)
    inputs = {name: np.concatenate([d[name] for d in data]) for name in data[0]}

    def run(steps, folder, **more):
        simulator = mgc.Simulator(program, numerics="float")
        return simulator.train(inputs=inputs, steps=steps, checkpoint=folder, **more).history, simulator.states()

    history, states = run(4, tmp_path / "whole")
    for steps in (1, 3):  # resumed before and after
        run(steps, tmp_path / str(steps))
        again, same = run(4, tmp_path / str(steps), resume=True)
        assert again == history
        for name, value in states.items():
            np.testing.assert_array_equal(same[name], value)
    assert states["iterations"] == 4
    if optimizer == "adam":
        assert (states["generator.steps"], states["discriminator.steps"]) == (4, 2)
        return
    follower = following(["generator=warm"])(proto)
    expected = {}
    for i, feed in enumerate(data):
        if i == 2:
            follower.phases = [("generator", "loss_both", RATE), ("discriminator", "loss_d", RATE)]
            follower.once, follower.reported = ["fake"], ["loss_fake", "warm", "loss_g"]
        for name, value in follower.iterate(feed).items():
            expected.setdefault(name, []).append(float(value))
    assert [len(history[name]) for name in ("warm", "loss_g", "loss_both", "loss_d", "loss_fake")] == [4, 2, 2, 2, 2]
    for name, values in expected.items():
        assert history[name] == pytest.approx(values, rel=1e-4), name
    for name, value in follower.state.items():
        if name in states:
            np.testing.assert_allclose(states[name], value, rtol=1e-4, atol=1e-6)


def replaying():
    """The critic's step reads samples out of a buffer, as CycleGAN's does."""
    more = [
        *critic("bought", "old"),
        *squares("old", "zero", "loss_old"),
        node("Add", "loss_real loss_old", "loss_replay"),
    ]
    return gan(nodes=more, inputs={"bought": [BATCH, 4]}, outputs={"loss_replay": [], "loss_old": []})


REPLAYED = ["generator=loss_g", "discriminator=loss_replay"]


def test_samples_are_replayed_out_of_a_pool(tmp_path):
    """Until the pool is full it gives the new samples; then old ones, as a buffer by hand does with the same draws."""
    size, iterations, proto = 6, 5, replaying()
    options = {"phases": REPLAYED, "optimizer": "sgd", "lr": RATE, "batch": BATCH}
    program = mgc.compile(proto, replay=[f"bought=fake,size={size}"], **options)
    data = feeds(proto, iterations, ["bought"])
    inputs = {name: np.concatenate([d[name] for d in data]) for name in data[0]}

    def run(steps, folder, seed=3, **more):
        simulator = mgc.Simulator(program, numerics="float")
        progress = simulator.train(inputs=inputs, steps=steps, seed=seed, checkpoint=folder, **more)
        return progress.history, simulator.states()

    history, states = run(iterations, tmp_path / "whole")
    follower = following(REPLAYED)(proto)
    pool: list[np.ndarray] = []
    for i, feed in enumerate(data):
        draw, bought = generator(3, "replay", "bought.pool", i), []
        for sample in follower.evaluate(feed, ["fake"], {})["fake"]:  # made before the generator's step
            if len(pool) < size:
                pool.append(sample)
                bought.append(sample)
            elif draw.random() > 0.5:
                slot = int(draw.integers(size))
                bought.append(pool[slot])
                pool[slot] = sample
            else:
                bought.append(sample)
        found = follower.iterate({**feed, "bought": np.array(bought)})
        assert history["loss_replay"][i] == pytest.approx(float(found["loss_replay"]), rel=1e-4)
    np.testing.assert_allclose(states["bought.pool"], pool, rtol=1e-4, atol=1e-6)
    for name in ("generator.w", "discriminator.a"):
        np.testing.assert_allclose(states[name], follower.state[name], rtol=1e-4, atol=1e-6)
    run(3, tmp_path / "halves")
    again, same = run(iterations, tmp_path / "halves", resume=True)
    assert again == history
    for name, value in states.items():
        np.testing.assert_array_equal(same[name], value)
    assert run(iterations, tmp_path / "other", seed=4)[0] != history


def test_what_cannot_be_replayed():
    for text, message in (
        ("bought=fake", "write INPUT=OUTPUT,size=N"),
        ("bought=fake,size=0", "write INPUT=OUTPUT,size=N"),
        ("sold=fake,size=3", "--replay sold=fake: the model's inputs are"),
        ("bought=loss_g,size=3", "bought is f32.*, loss_g is f32.*: not alike"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            mgc.compile(replaying(), phases=REPLAYED, optimizer="sgd", batch=BATCH, replay=[text])
    phases = ["generator=loss_g,steps=2", "discriminator=loss_replay"]
    with pytest.raises(UnsupportedError, match="--replay does not go with a phase of several steps"):
        mgc.compile(replaying(), phases=phases, optimizer="sgd", batch=BATCH, replay=["bought=fake,size=3"])


def composed(**options):
    """(states after some iterations, warnings) of two perceptrons under a loss's name."""
    given = {"discriminator": DATA / "mlp_D_ts.onnx", "loss": "bce", "optimizer": "adam", "batch": BATCH}
    program, stats = compile_with_stats(DATA / "mlp_G_ts.onnx", CompileOptions(**given, **options))
    simulator = mgc.Simulator(program, numerics="float")
    rng = np.random.default_rng(0)
    ports = {p.name: p.shape for p in program.part(program.entries[0].name).inputs}
    data = {n: rng.standard_normal((ITERATIONS * s[0], *s[1:])).astype(np.float32) for n, s in ports.items()}
    simulator.train(inputs=data, steps=ITERATIONS)
    return simulator.states(), [w for w in stats.warnings if "once" in w or "shared" in w]


def test_networks_in_two_files_take_samples_once_too():
    order = ["generator", "discriminator"]
    once, warnings = composed(order=order, once=["image"])
    assert not warnings
    anew, (warning,) = composed(order=order)
    assert "phase discriminator computes image anew" in warning
    shared, warnings = composed(order=order, dataflow="shared")
    assert not warnings
    plain, warnings = composed()
    assert not warnings
    for name, value in once.items():
        np.testing.assert_allclose(shared[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    apart = [n for n in once if not np.allclose(once[n], anew[n], rtol=1e-3, atol=1e-5)]
    assert any("discriminator" in n for n in apart)
    assert any(not np.allclose(once[n], plain[n], rtol=1e-3, atol=1e-5) for n in once)
    for options, message in (
        ({"once": ["z"]}, "--once z: with --discriminator the generator's output can be computed once"),
        ({"once": ["image"], "redraw_noise": True}, "with --redraw-noise each phase has fakes of its own"),
        ({"order": ["generator"]}, "write generator,discriminator or discriminator,generator"),
        ({"carry": ["k=k_next"]}, "--carry goes with --phase"),
    ):
        with pytest.raises(UnsupportedError, match=message):
            composed(**options)


def test_the_same_computed_again_is_not_what_was_made_once():
    """InfoGAN's third step runs G once more, with its new weights, and trains it through that."""
    nodes = [
        node("MatMul", "z generator.w", "pre.again"),
        node("Tanh", "pre.again", "fake.again"),
        *critic("fake.again", "told"),
        *squares("told", "one", "loss_info"),
    ]
    phases = [*BOTH, "info=loss_info"]
    groups = {"info": ["generator.*", "discriminator.*"]}
    proto = gan(nodes=nodes, outputs={"loss_info": []})
    check(proto, following(phases, groups=groups, once=["fake"])(proto), phases=phases, groups=groups, once=["fake"])
