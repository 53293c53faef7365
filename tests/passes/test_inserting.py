"""Schedules by insertion: legal, no task later than in the schedule that they start from, and idle where that helps."""

from hypothesis import given, settings
from hypothesis import strategies as st
from random_problems import faults_of, parted

from mgc.functions.channel import WHOLE
from mgc.passes.scheduling.inserting import insert, squeeze
from mgc.passes.scheduling.listing import list_schedule, self_timed
from mgc.passes.scheduling.paces import Paced, own_paces
from mgc.passes.scheduling.problem import Edge, Problem
from mgc.passes.scheduling.search import best_list


@settings(max_examples=150, deadline=None)
@given(parted())
def test_tasks_find_gaps_and_none_starts_later(problem):
    tasks = problem.tasks
    starts = self_timed(tasks, list_schedule(tasks, [-t for t in tasks.tails]))
    forward = insert(tasks, starts)
    assert not faults_of(problem, forward)
    assert all(now <= before for now, before in zip(forward, starts, strict=True))
    late = insert(tasks, starts, backward=True)
    assert not faults_of(problem, late)
    assert min(late) >= 0
    assert tasks.makespan(late) <= tasks.makespan(starts)
    squeezed = squeeze(tasks, starts)
    assert not faults_of(problem, squeezed)
    assert tasks.makespan(squeezed) <= tasks.makespan(starts)
    assert self_timed(tasks, squeezed) == squeezed or squeezed == starts


def test_what_is_urgent_does_not_wait_for_what_is_ready_a_moment_sooner():
    # 0 then 1 and 2, a chain; 3 is ready at once, takes half of the channel as 1 does three quarters, and is not urgent
    half, most = WHOLE // 2, 3 * WHOLE // 4
    problem = Problem((1, 4, 8, 6), (0, 1, 2, 3), (Edge(0, 1), Edge(1, 2)), 1, (), (), (0, most, 0, half))
    tasks = problem.tasks
    listed = list_schedule(tasks, [-t for t in tasks.tails], patient=True)
    assert (tasks.makespan(listed), tasks.makespan(squeeze(tasks, listed))) == (18, 13)


@settings(max_examples=40, deadline=None)
@given(parted(most_operations=5, most_repeats=3), st.data())
def test_paces_are_taken_only_where_they_fit(problem, data):
    count = problem.operations
    moved = data.draw(st.lists(st.integers(0, 300), min_size=count, max_size=count))
    least = [max(d, -(-b // 64)) for d, b in zip(problem.durations, moved, strict=True)]
    paced = Paced(problem, moved, least, 64.0).at_most(0.5)
    tasks = paced.problem.tasks
    starts = best_list(paced.problem, 0)
    answers = data.draw(st.lists(st.booleans(), max_size=6))
    fitting = [list(starts)]

    def fits(_, found):
        fitting.extend([found] if (answer := answers.pop() if answers else True) else [])
        return answer

    best, found = own_paces([(paced, starts)], 0, fits)
    assert found in fitting
    assert not faults_of(best.problem, found)
    assert best.problem.tasks.makespan(found) <= tasks.makespan(starts)
    assert all(d >= fastest for d, fastest in zip(best.problem.durations, least, strict=True))


def test_half_of_a_cycle_is_a_cycle():
    problem = Problem((1, 1), (0, 1), (), 1, (), (), (0, 0))
    paced = Paced(problem, [21, 130], [1, 3], 64.0)
    assert paced.but({0: 0, 1: 0}) == (1, 3)


def test_what_waits_for_the_channel_together_is_made_slower_together():
    """Four that each take 3/8 of the channel run two and two: at 1/4 each they run side by side, and end sooner."""
    problem = Problem((100,) * 4, tuple(range(4)), (), 1, (), (), (WHOLE * 3 // 8,) * 4)
    paced = Paced(problem, [2400] * 4, [100] * 4, 64.0)
    starts = list_schedule(problem.tasks, [0] * 4)
    best, found = own_paces([(paced, starts)], 0, lambda paced, starts: True)
    assert (problem.tasks.makespan(starts), best.problem.tasks.makespan(found)) == (200, 151)


@settings(max_examples=40, deadline=None)
@given(parted(most_operations=5, most_repeats=3), st.data())
def test_insertion_leaves_what_starts_before_a_moment_where_it_is(problem, data):
    tasks = problem.tasks
    starts = list_schedule(tasks, [-t for t in tasks.tails])
    since = data.draw(st.integers(0, tasks.makespan(starts)))
    found = insert(tasks, starts, since=since)
    assert not faults_of(problem, found)
    assert all(now <= before for now, before in zip(found, starts, strict=True))
    assert all(now == before for now, before in zip(found, starts, strict=True) if before < since)
