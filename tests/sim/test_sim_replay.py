"""Self-timed replay on streams whose clock can be followed by hand."""

import hypothesis.strategies as st
import numpy as np
import pytest
from entries import with_plan
from hypothesis import given, settings
from programs import random_program

from mgc.isa.entry import Entry
from mgc.isa.error import ProgramError
from mgc.isa.instructions import BUFFER, Load, Ref, Store
from mgc.isa.memory import Buffer, Port
from mgc.isa.program import Program
from mgc.isa.schedule import Schedule, Unit
from mgc.sim import replay


def pipeline(durations, starts, units=(0, 1), after_previous=((), ()), micro_batches=3):
    """load -> store, of given durations and planned starts."""
    starts = np.array(starts, np.int64)
    load = Load(0, units[0], durations[0], (), after_previous[0], 0, port=0, dst=0)
    store = Store(1, units[1], durations[1], (0,), after_previous[1], 0, src=Ref(BUFFER, 0), port=0)
    end = int(max(starts[0].max() + durations[0], starts[1].max() + durations[1]))
    schedule = Schedule(starts, "OPTIMAL", end, end)
    return Program(
        name="p", target={}, instructions=(load, store),
        buffers=(Buffer(0, "b", "real", "float32", (1,)),), constants=(), groups=(),
        units=(Unit(0, "in", "link"), Unit(1, "out", "link")), inputs=(Port("x", 0, "float32", (1,), True),),
        outputs=(Port("y", 0, "float32", (1,), True),), host_segments=(),
        entries=(Entry(0, "testing", "test", 0, 2, 1, 1, micro_batches, True, schedule),), clock_ns=1.0,
        sources=((),), absorbed={}, tensors={},
    )  # fmt: skip


def test_a_pipeline_overlaps():
    program = pipeline((4, 6), [[0, 4, 8], [4, 10, 16]])
    program.verify()
    result = replay(program)
    assert result.starts.tolist() == [[0, 4, 8], [4, 10, 16]]
    assert result.ends.tolist() == [[4, 8, 12], [10, 16, 22]]
    assert result.makespan == 22


def test_idle_time_in_a_plan_is_closed():
    assert replay(pipeline((4, 6), [[0, 4, 20], [30, 40, 50]])).makespan == 22


def test_a_single_slot_makes_the_producer_wait():
    # the buffer has one slot: a load waits until the store of the micro-batch before has ended
    result = replay(pipeline((4, 6), [[0, 10, 20], [4, 14, 24]], after_previous=(((1, 1),), ())))
    assert result.starts.tolist() == [[0, 10, 20], [4, 14, 24]]
    two = replay(pipeline((4, 6), [[0, 4, 10], [4, 10, 16]], after_previous=(((1, 2),), ())))
    assert two.starts.tolist() == [[0, 4, 10], [4, 10, 16]]


def test_one_unit_runs_in_planned_order():
    # loads first, then stores: the plan's order counts, not the instructions'
    result = replay(pipeline((1, 1), [[0, 1, 2], [3, 4, 5]], units=(0, 0)))
    assert result.starts.tolist() == [[0, 1, 2], [3, 4, 5]]
    result = replay(pipeline((1, 1), [[0, 2, 4], [1, 3, 5]], units=(0, 0)))
    assert result.starts.tolist() == [[0, 2, 4], [1, 3, 5]]


def test_tasks_that_take_no_time():
    result = replay(pipeline((0, 0), [[0, 0, 0], [0, 0, 0]], units=(0, 0)))
    assert result.makespan == 0
    result = replay(pipeline((0, 3), [[0, 3, 6], [0, 3, 6]], units=(0, 0)))
    assert result.starts.tolist() == [[0, 3, 6], [0, 3, 6]]


def test_circles_are_found():
    # the store of micro-batch 0 is planned before its own load, on the same unit
    with pytest.raises(ProgramError, match=r"wait for one another: .* in at \(1, 0\)"):
        replay(pipeline((1, 1), [[1, 2, 3], [0, 4, 5]], units=(0, 0)))


@settings(deadline=None, max_examples=40)
@given(st.randoms(use_true_random=False))
def test_a_left_justified_plan_is_met_to_the_cycle(rng):
    program = random_program(rng)
    assert np.array_equal(replay(program).starts, program.entry.schedule.starts)
    starts = program.entry.schedule.starts
    assert np.array_equal(replay(with_plan(program, starts=starts * 3 + 5)).starts, starts)
