"""Training on the fast engine: equal to the reference bit for bit in `quantized`, follows PyTorch in `float`."""

import numpy as np
import pytest
from compiled import ITERATIONS, composed_program, follow, step_program
from test_compiled_training import COMPOSED, STEPS

from mgc.sim import Simulator
from mgc.training.trainee import Trainee

CASES = [*COMPOSED, *STEPS]


def made(case):
    return (composed_program if len(case) == 5 else step_program)(*case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float_follows_pytorch(case):
    program, _, data, expected, names = made(case)
    follow(program, data, expected, names, engine="fast")


@pytest.mark.parametrize("case", [*CASES, ("mlp", "ts", "wgan-gp", "adam", False, 1, "puma")], ids=str)
def test_quantized_equals_the_reference(case):
    program, _, data, _, _ = composed_program(*case) if len(case) != 3 else step_program(*case)
    equal(program, data, ITERATIONS)


@pytest.mark.parametrize("target", ["prime", "isaac"])
def test_other_converters(target):
    """`prime` reads at a full scale that no sum meets exactly: what is read there runs as the reference has it."""
    program, _, data, _, _ = composed_program("mlp", "ts", "bce", "adam", target=target)
    equal(program, data, 2)


def test_several_critic_steps():
    program, _, data, _, _ = composed_program("mlp", "ts", "wgan", "rmsprop", steps=3)
    trainees = [Trainee(Simulator(program, engine, "quantized")) for engine in ("reference", "fast")]
    for i in range(2):
        batches = [{p.name: data[p.name][(i + k) % ITERATIONS] for p in trainees[0].inputs} for k in range(3)]
        reference, fast = (t.step(batches) for t in trainees)
        assert reference == fast
    same_states(*trainees)


def equal(program, data, iterations):
    trainees = [Trainee(Simulator(program, engine, "quantized")) for engine in ("reference", "fast")]
    for i in range(iterations):
        batch = {p.name: data[p.name][i] for p in trainees[0].inputs}
        reference, fast = (t.step([batch]) for t in trainees)
        assert reference == fast, f"iteration {i}"
    same_states(*trainees)


def same_states(reference, fast):
    other = fast.state()
    for name, state in reference.state().items():
        np.testing.assert_array_equal(other[name], state, err_msg=name)
