"""`mgc.Simulator.train`: the command line's training, from Python."""

import numpy as np
import pytest
from gan_programs import gan_program

import mgc
from mgc.training.errors import TrainingError


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(5).standard_normal((40, 5)).astype(np.float32)


def simulator(program=None):
    return mgc.Simulator(program or gan_program(2), engine="reference")


def test_data_in_memory_is_that_of_a_file(rows, tmp_path):
    np.save(tmp_path / "x.npy", rows)
    ways = [rows, {"x": rows}, tmp_path / "x.npy", str(tmp_path / "x.npy")]
    histories = [simulator().train(data, steps=4, seed=2).history for data in ways]
    assert all(h == histories[0] for h in histories)
    assert simulator().train(rows, steps=4, seed=3).history != histories[0]


def test_run_has_the_weights_of_training(rows):
    z = np.ones((4, 3), np.float32)
    of = simulator()
    before = of.run({"z": z})["y"]
    seen = []
    result = of.train(rows, steps=8, progress=lambda p: seen.append(p.steps))
    assert seen == list(range(1, 9))
    assert result.steps == 8
    assert np.abs(of.run({"z": z})["y"] - before).max() > 0.05
    assert of.train(rows, steps=8).history == result.history


def test_checkpoints(rows, tmp_path):
    whole = simulator().train(rows, steps=7)
    simulator().train(rows, steps=3, checkpoint=tmp_path)
    of = simulator()
    rest = of.train(rows, steps=7, checkpoint=tmp_path, resume=True)
    assert (rest.resumed_from, rest.history) == (3, whole.history)
    assert rest.checkpoint == tmp_path / "step-00000007.safetensors"


def test_arrays_in_order(rows):
    inputs = {"x": np.tile(rows, (2, 1)), "z": np.ones((80, 3), np.float32)}
    first = simulator().train(steps=10, inputs=inputs)
    assert simulator().train(steps=10, inputs=inputs, seed=8).history == first.history
    with pytest.raises(
        TrainingError, match="the array for input x holds 80 samples, 11 steps of 2 batches of 4 need 88"
    ):
        simulator().train(steps=11, inputs=inputs)


def test_requests_that_cannot_be(rows):
    with pytest.raises(TrainingError, match="there is no input 'q'; the program's inputs are"):
        simulator().train(steps=1, inputs={"q": rows})
    with pytest.raises(TrainingError, match="samples along axis 0 are needed"):
        simulator().train(np.float32(1) * np.ones(()), steps=1)
    with pytest.raises(TrainingError, match="nothing is given for input x"):
        simulator().train(steps=1)
    bad = rows.copy()
    bad[3, 1] = np.nan
    with pytest.raises(TrainingError, match="the data: sample 3 holds nan"):
        simulator().train(bad, steps=1)
