"""A real training program on the simulator: the loop, its entries, its trained models."""

import numpy as np
import onnxruntime
import pytest
from gan_programs import gan_program
from training_programs import TinyGan

from mgc.isa.program import Program
from mgc.sim import DivergenceError, SimulationError, Simulator
from mgc.training.checkpoint import CheckpointError
from mgc.training.data.assign import feeder
from mgc.training.errors import Diverged, TrainingError
from mgc.training.export import check_writable, plan_export, trained_models
from mgc.training.identity import program_hash
from mgc.training.inference import checkpoint_weights, entry_for_testing, load_weights
from mgc.training.loop import train
from mgc.training.store import Store
from mgc.training.trainee import Trainee


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(5).standard_normal((40, 5)).astype(np.float32))
    return path


def trainee(program, numerics="quantized"):
    return Trainee(Simulator(program, "reference", numerics))


def run(program, data, steps, folder=None, numerics="quantized", resume=False):
    of = trainee(program, numerics)
    feeds = feeder(of.inputs, of.batches, steps, 7, data, {})
    if folder is None:
        return train(of, feeds, steps), of
    with Store(folder, 7, of.identity) as store:
        return train(of, feeds, steps, store, resume, 5), of


@pytest.mark.parametrize("numerics", ["quantized", "float"])
@pytest.mark.parametrize("critic_steps", [1, 3])
def test_a_resumed_run_has_the_bits_of_one_left_alone(data, tmp_path, numerics, critic_steps):
    program = gan_program(critic_steps)
    whole, a = run(program, data, 12, numerics=numerics)
    assert a.batches == critic_steps
    run(program, data, 5, tmp_path / "c", numerics)
    rest, b = run(program, data, 12, tmp_path / "c", numerics, resume=True)
    assert (rest.resumed_from, rest.history) == (5, whole.history)
    assert a.state().keys() == b.state().keys()
    assert all(a.state()[n].tobytes() == v.tobytes() for n, v in b.state().items())


def test_the_loop_does_what_the_simulator_does_alone(data):
    program = gan_program()
    progress, of = run(program, data, 4)
    alone = Simulator(TinyGan().program, engine="reference")
    feeds = feeder(of.inputs, 1, 4, 7, data, {})
    for step in range(4):
        losses = alone.run_iteration(feeds.iteration(step)[0])
        assert {n: float(v) for n, v in losses.items()} == {n: h[step] for n, h in progress.history.items()}
    assert all(alone.states()[n].tobytes() == v.tobytes() for n, v in of.state().items())


def test_a_program_keeps_its_entries_in_its_file(tmp_path):
    program = gan_program(3)
    program.save(tmp_path / "p.mgc")
    loaded = Program.load(tmp_path / "p.mgc")
    assert [s.repeats for s in loaded.iteration] == [2, 1]
    assert [p.name for p in entry_for_testing(loaded).inputs] == ["z"]
    assert [p.name for p in entry_for_testing(loaded).outputs] == ["y"]
    assert {i.name: i.role for i in trainee(loaded).inputs} == {"x": "data", "z": "noise"}
    assert program_hash(loaded) == program_hash(program)
    assert program_hash(gan_program(2)) != program_hash(program)
    loaded.save(tmp_path / "q.mgc")
    assert (tmp_path / "q.mgc").read_bytes() == (tmp_path / "p.mgc").read_bytes()


def test_programs_that_do_not_train():
    with pytest.raises(TrainingError, match="has no testing entry"):
        entry_for_testing(TinyGan().program)
    with pytest.raises(TrainingError, match="does not train: compile it with --discriminator"):
        trainee(entry_for_testing(gan_program()))


@pytest.mark.parametrize("numerics", ["quantized", "float"])
def test_exported_models_and_the_testing_entry_have_the_trained_weights(data, tmp_path, numerics):
    program = gan_program()
    _, of = run(program, data, 9, tmp_path / "c", numerics)
    plan = plan_export(program, tmp_path / "out")
    assert sorted(p.name for p in plan.entries) == ["discriminator.onnx", "generator.onnx"]
    files = dict(trained_models(program, plan, of.state()))
    z = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    (made,) = onnxruntime.InferenceSession(files[tmp_path / "out" / "generator.onnx"]).run(None, {"z": z})
    state = of.state()
    np.testing.assert_allclose(made, z @ state["g"] + state["b"], rtol=1e-5, atol=1e-6)
    (whole,) = dict(trained_models(program, plan_export(program, tmp_path / "all.onnx"), of.state())).values()
    x = np.ones((2, 5), np.float32)
    found = onnxruntime.InferenceSession(whole).run(["y", "score"], {"z": z, "x": x})
    np.testing.assert_array_equal(found[0], made)
    np.testing.assert_allclose(found[1], x @ state["d"], rtol=1e-5, atol=1e-6)

    step, weights = checkpoint_weights(program, tmp_path / "c", lambda message: None)
    assert step == 9
    tester = Simulator(entry_for_testing(program), "reference", numerics)
    before = tester.run({"z": z})["y"]
    load_weights(tester, weights)
    after = tester.run({"z": z})["y"]
    assert np.abs(after - made).max() < (0.05 if numerics == "quantized" else 1e-5)
    assert np.abs(before - made).max() > 0.1
    with pytest.raises(TrainingError, match="there is no trained value for state g"):
        load_weights(tester, {})


def test_checkpoints_of_other_programs_are_refused(data, tmp_path):
    run(gan_program(), data, 2, tmp_path / "c")
    with pytest.raises(CheckpointError, match="belongs to another program"):
        checkpoint_weights(gan_program(2), tmp_path / "c", lambda message: None)
    with pytest.raises(CheckpointError, match="there is no folder"):
        checkpoint_weights(gan_program(), tmp_path / "d", lambda message: None)
    (tmp_path / "d").mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoint_weights(gan_program(), tmp_path / "d", lambda message: None)


def test_export_requests_that_cannot_be(tmp_path):
    program = gan_program()
    with pytest.raises(TrainingError, match="does not hold the models"):
        plan_export(TinyGan().program, tmp_path)
    (tmp_path / "f").write_text("")
    with pytest.raises(TrainingError, match="is a file: name a folder"):
        check_writable(plan_export(program, tmp_path / "f"))
    (tmp_path / "d.onnx").mkdir()
    with pytest.raises(TrainingError, match="is a folder: name another file"):
        check_writable(plan_export(program, tmp_path / "d.onnx"))
    check_writable(plan_export(program, tmp_path / "new" / "folder"))


def test_a_gradient_that_is_not_finite_names_step_and_state(data):
    program = gan_program()
    of = trainee(program, "float")
    feeds = feeder(of.inputs, 1, 9, 7, data, {})
    state = dict(of.state())
    state["g"] = np.full_like(state["g"], 1e30)
    of.restore(state)
    with pytest.raises(Diverged, match=r"step 1: .*(of d|loss_d) is not finite"):
        train(of, feeds, 9)


def test_states_of_another_program_are_refused():
    of, other = trainee(gan_program()), trainee(gan_program(n=6))
    with pytest.raises(TrainingError, match="does not go with this program"):
        of.restore(other.state())
    with pytest.raises(TrainingError, match="are not those of this program: b"):
        of.restore({n: v for n, v in of.state().items() if n != "b"})


def batches_of(count, seed=0):
    rng = np.random.default_rng(seed)
    return [{"x": rng.standard_normal((4, 5)).astype(np.float32), "z": rng.standard_normal((4, 3)).astype(np.float32)}
            for _ in range(count)]  # fmt: skip


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize("numerics", ["quantized", "float"])
def test_all_entries_work_on_the_same_states(engine, numerics):
    """`run` in the middle of training has the weights of now, and changes nothing."""
    program = gan_program(3)
    whole, alone = (Simulator(program, engine, numerics) for _ in range(2))
    z = {"z": batches_of(1, 9)[0]["z"]}
    first = whole.run(z)["y"]
    for k in range(3):
        assert whole.run_iteration(*batches_of(3, k)) == alone.run_iteration(*batches_of(3, k))
        tester = Simulator(program.part("generator"), engine, numerics)
        tester.load_states(whole.states())
        np.testing.assert_array_equal(whole.run(z)["y"], tester.run(z)["y"])
    assert all(alone.states()[n].tobytes() == v.tobytes() for n, v in whole.states().items())
    whole.reset()
    np.testing.assert_array_equal(whole.run(z)["y"], first)


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_an_iteration_of_several_batches_that_fails_is_undone(engine):
    simulator = Simulator(gan_program(3), engine)
    simulator.run_iteration(*batches_of(3))
    before = simulator.states()
    bad = batches_of(3, 1)
    bad[2]["x"][0] = np.inf
    with pytest.raises(DivergenceError, match="is not finite") as caught:
        simulator.run_iteration(*bad)
    assert caught.value.undone
    assert all(before[n].tobytes() == v.tobytes() for n, v in simulator.states().items())
    with pytest.raises(SimulationError, match="2 batches came, an iteration takes 3"):
        simulator.run_iteration(*batches_of(2))
