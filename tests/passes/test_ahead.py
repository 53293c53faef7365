"""A batch in parts: how far operations run ahead of one another, and schedules that share the off-chip channel."""

from hypothesis import given, settings
from hypothesis import strategies as st
from random_problems import best_on_channel, faults_of, parted

from mgc.ir.graph import Value
from mgc.ir.types import DType, TensorType
from mgc.passes.mapping.plan import Operation
from mgc.passes.scheduling.bounds import barrier_bound, lower_bound
from mgc.passes.scheduling.entry import problem_of
from mgc.passes.scheduling.listing import as_late, justify, list_schedule, self_timed
from mgc.passes.scheduling.memory import slot_waits
from mgc.passes.scheduling.operations import Work
from mgc.passes.scheduling.search import best_list
from mgc.passes.scheduling.stages import passing, stages_of


@settings(max_examples=200, deadline=None)
@given(parted())
def test_every_schedule_of_parts_is_legal_and_above_its_bounds(problem):
    tasks = problem.tasks
    bound = barrier_bound(tasks)
    assert lower_bound(tasks) <= bound
    first = list_schedule(tasks, [-t for t in tasks.tails])
    for starts in (
        first,
        list_schedule(tasks, tasks.heads, patient=True),
        self_timed(tasks, list_schedule(tasks, tasks.tails, backward=True)),
        as_late(tasks, first),
        *justify(tasks, first),
        best_list(problem, bound),
    ):
        assert not faults_of(problem, starts)
        assert tasks.makespan(starts) >= bound


@settings(max_examples=100, deadline=None)
@given(parted(most_operations=4, most_units=3, most_repeats=2))
def test_bounds_with_a_channel_are_below_the_best_of_all_orders(problem):
    if len(problem.tasks) <= 6:
        best = best_on_channel(problem)
        assert barrier_bound(problem.tasks) <= best <= problem.tasks.makespan(best_list(problem, 0))


@st.composite
def works(draw):
    """Operations that each make a value; of values that are there part by part some readers need the same part."""
    count = draw(st.integers(2, 8))
    values = [Value(f"v{k}", TensorType(DType.F32, (4,))) for k in range(count)]
    streamed = [draw(st.booleans()) or draw(st.booleans()) for _ in range(count)]
    axes = [s and draw(st.booleans()) for s in streamed]
    operations, readers = [], {v: [] for v in values}
    for k in range(count):
        after, after_all = [], []
        for j in sorted(draw(st.sets(st.integers(0, k - 1), max_size=3))) if k else ():
            readers[values[j]].append(k)
            (after_all if streamed[k] and streamed[j] and not axes[j] else after).append(j)
        unit, duration = draw(st.integers(0, 2)), draw(st.integers(1, 5))
        operations.append(
            Operation("vec", unit, duration, tuple(after), after_all=tuple(after_all), streamed=streamed[k])
        )
    work = Work(
        tuple(operations),
        (),
        {v: (k,) for k, v in enumerate(values)},
        {v: tuple(own) for v, own in readers.items()},
        dict.fromkeys(values, 16),
        frozenset(),
    )
    return work, [v for v, whole in zip(values, axes, strict=True) if whole]


@settings(max_examples=300, deadline=None)
@given(works(), st.integers(1, 3), st.integers(2, 5))
def test_limits_within_a_stage_leave_no_circle_and_are_kept(drawn, slots, parts):
    work, axes = drawn
    problem = problem_of(work.operations, parts, cut=True)
    found = passing(work, axes, {v: v for v in work.writers})
    waits = slot_waits(work, dict.fromkeys(found, slots), parts)
    limited = problem_of(work.operations, parts, cut=True, waits=waits)
    starts = best_list(limited, 0)
    assert not faults_of(limited, starts)
    table = limited.tasks.matrix(starts)
    for value in found:
        (writer,) = work.writers[value]
        for reader in work.readers[value]:
            for k in range(slots, parts):
                assert table[writer, k] >= table[reader, k - slots] + work.operations[reader].duration
    stages = stages_of(work.operations)
    for k, op in enumerate(work.operations):
        assert all(stages[j] < stages[k] for j in op.after_all)
        assert all(stages[j] <= stages[k] for j in op.after)
    assert problem.tasks.makespan(best_list(problem, 0)) >= lower_bound(problem.tasks)
