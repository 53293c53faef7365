"""The fast engine against the reference: bit for bit in `quantized`, by tolerance in `float`."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from programs import random_inputs, random_program

from mgc.isa.functions import function_code
from mgc.isa.instructions import Vec
from mgc.sim.fast import FastEngine
from mgc.sim.inputs import check_inputs
from mgc.sim.reference import ReferenceEngine

# functions that jump: a rounding error of `float` numerics on one side of a jump is no small error any more
JUMPS = {function_code(n) for n in ("floor", "ceil", "round", "sign", "less", "cast")}

# a seed, not a random stream drawn by hypothesis: that one prefers small numbers and gives poor programs
SEEDS = st.integers(0, 2**32 - 1)


def jumps(program):
    return any(s.function in JUMPS for i in program.instructions if isinstance(i, Vec) for s in i.steps)


def run(engine, program, inputs, micro_batches):
    checked, _ = check_inputs(program, inputs)
    return engine.run(checked, micro_batches)


def assert_same_bits(got, expected):
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        # equal bits, but for the sign of a zero, which the instruction set leaves open after some functions
        np.testing.assert_array_equal(got[name], array)


@settings(max_examples=400, deadline=None)
@given(SEEDS, st.sampled_from([1, 2, 3]))
def test_random_programs_give_the_same_bits(seed, micro_batches):
    rng = random.Random(seed)
    program = random_program(rng)
    inputs = random_inputs(program, rng, samples=micro_batches * program.entry.micro_batch)
    expected = run(ReferenceEngine(program, "quantized"), program, inputs, micro_batches)
    assert_same_bits(run(FastEngine(program, "quantized", 1), program, inputs, micro_batches), expected)


@settings(max_examples=120, deadline=None)
@given(SEEDS)
@example(1397)  # its sums cancel
@example(612315)  # its exponentials overflow
def test_float_numerics_are_close(seed):
    rng = random.Random(seed)
    program = random_program(rng)
    inputs = random_inputs(program, rng, samples=2 * program.entry.micro_batch)
    expected = run(ReferenceEngine(program, "float"), program, inputs, 2)
    got = run(FastEngine(program, "float", 1), program, inputs, 2)
    draw = np.random.default_rng(seed)

    def nudged(arrays):
        """Every float a little off, one way or the other."""
        return {
            n: (a * (1 + 1e-6 * draw.choice([-1, 1], a.shape))).astype(a.dtype) if a.dtype.kind == "f" else a
            for n, a in arrays.items()
        }

    off = replace(program, tensors=nudged(program.tensors))
    moved = run(ReferenceEngine(off, "float"), off, nudged(inputs), 2)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        assert got[name].shape == array.shape
        if not jumps(program):
            endless = ~np.isfinite(array) & ~np.isfinite(moved[name])  # whatever the rounding
            assert not np.isfinite(got[name][endless]).any()
            sure = np.isfinite(array) & np.isfinite(moved[name])
            right, near, found = (a[sure].astype(np.float64) for a in (array, moved[name], got[name]))
            size = float(np.abs(right).max(initial=1.0))
            # sums that cancel magnify float32's rounding, as they magnify small changes of what goes in
            magnified = np.abs(near - right).max(initial=0.0)
            np.testing.assert_array_less(np.abs(found - right), 1e-4 * size + 1e-3 * np.abs(right) + 10 * magnified)


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_threads_and_batching_do_not_change_results(seed):
    rng = random.Random(seed)
    program = random_program(rng)
    samples = 5 * program.entry.micro_batch
    inputs = random_inputs(program, rng, samples)
    whole = run(FastEngine(program, "quantized", 1), program, inputs, 5)
    threaded = FastEngine(program, "quantized", 2)
    assert_same_bits(run(threaded, program, inputs, 5), whole)
    for name, array in whole.items():
        rows = len(array) // 5
        for m in (0, 4):
            size = {n: len(a) // 5 for n, a in inputs.items()}
            part = {n: a[m * size[n] : (m + 1) * size[n]] for n, a in inputs.items()}
            alone = run(threaded, program, part, 1)[name]
            np.testing.assert_array_equal(alone, array[m * rows : (m + 1) * rows])


def test_inputs_are_not_changed_and_results_are_the_callers():
    rng = random.Random(5)
    program = random_program(rng)
    inputs = random_inputs(program, rng, samples=2 * program.entry.micro_batch)
    before = {n: a.copy() for n, a in inputs.items()}
    engine = FastEngine(program, "quantized", 1)
    first = run(engine, program, inputs, 2)
    kept = {n: a.copy() for n, a in first.items()}
    other = random_inputs(program, rng, samples=2 * program.entry.micro_batch)
    run(engine, program, other, 2)
    for name, array in first.items():
        np.testing.assert_array_equal(array, kept[name])
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("threads", [None, 1, 3])
def test_chunk_is_positive_and_bounded(threads):
    engine = FastEngine(random_program(random.Random(1)), "quantized", threads)
    assert 1 <= engine.chunk <= 64 * 64
