"""Second copies where they save time: the same results in less of it, none where there is no room."""

from itertools import pairwise, product

import pytest
from compiled import composed_program, follow
from hypothesis import example, given
from hypothesis import strategies as st

import mgc
from benchmarks.networks import discriminator, generator
from mgc.passes.lowering.trained.copies import _envelope, _joined  # the two steps that have a brute-force answer
from mgc.targets.loader import load_target


def target_with(copies: str, **structure: int):
    target = load_target("liu2018")
    training = target.training.model_copy(update={"copies": copies})
    return target.model_copy(update={"training": training, "structure": target.structure.model_copy(update=structure)})


def transposed_reads(program) -> int:
    return sum(i.mnemonic == "mvm_t" for i in program.instructions)


@pytest.mark.parametrize("case", [("dcgan", "ts", "bce", "adam"), ("odd", "ts", "hinge", "adam")], ids=str)
def test_copies_save_time_of_reads_and_change_no_result(case):
    fast, _, data, expected, names = composed_program(*case, target=target_with("fast", tiles_per_chip=2))
    least, *_ = composed_program(*case, target=target_with("least", tiles_per_chip=2))
    assert transposed_reads(fast) < transposed_reads(least)
    assert sum(g.crossbars_per_replica for g in fast.groups) > sum(g.crossbars_per_replica for g in least.groups)
    assert fast.meta["allocation"]["cycles"] < least.meta["allocation"]["cycles"]
    follow(fast, data, expected, names)


def test_there_is_no_copy_without_room_for_one():
    least, *_ = composed_program("mlp", "ts", "bce", "adam", target=target_with("least"))
    room = {"tiles_per_chip": 1, "macros_per_tile": 1}
    room["crossbars_per_macro"] = sum(g.crossbars_per_replica for g in least.groups)
    tight, *_ = composed_program("mlp", "ts", "bce", "adam", target=target_with("fast", **room))
    assert transposed_reads(tight) == transposed_reads(least) > 0


def test_a_copy_that_needs_far_more_crossbars_than_the_first_is_left():
    """The last layer has one output of 8 x 8 x 4 x 4 inputs: turned round it is a row of each of 16 groups."""
    target = target_with("fast", tiles_per_chip=4)
    given = {"discriminator": discriminator(8, 1), "loss": "bce", "optimizer": "sgd", "batch": 4, "target": target}
    program = mgc.compile(generator(8, colours=1), objective="time", **given)
    copied = {g.name.split(".copy")[0] for g in program.groups if ".copy" in g.name}
    assert copied
    assert "discriminator.main.12" not in copied


def test_a_target_that_reads_one_way_has_copies_whatever_it_says():
    target = load_target("puma")
    fast = target.model_copy(update={"training": target.training.model_copy(update={"copies": "fast"})})
    programs = [composed_program("mlp", "ts", "bce", "adam", target=t)[0] for t in (target, fast)]
    assert transposed_reads(programs[0]) == transposed_reads(programs[1]) == 0


def curves():
    """Convex curves: (cycles, crossbars), each step saves less a crossbar than the one before."""

    def build(start, steps):
        cycles, held, points = 1000, start, [(1000, start)]
        for saved, taken in sorted(steps, key=lambda s: -s[0] / s[1]):
            cycles, held = cycles - saved, held + taken
            points.append((cycles, held))
        return points

    return st.builds(build, st.integers(1, 5), st.lists(st.tuples(st.integers(1, 90), st.integers(1, 9)), max_size=5))


@example([(1000, 1)], [(1000, 1), (988, 2), (928, 7)])
@given(curves(), curves())
def test_two_arrays_one_after_the_other_share_crossbars_best(first, second):
    both = _joined(first, second)
    for cycles, held in both:
        best = min(a + b for (a, x), (b, y) in product(first, second) if x + y <= held)
        assert cycles <= best  # between two points of a curve it is on the line
        assert (cycles, held) in [(a + b, x + y) for (a, x), (b, y) in product(first, second)]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50), st.booleans()), min_size=1, max_size=12))
def test_the_envelope_is_below_all_points_and_convex(points):
    kept = _envelope(points)
    assert set(kept) <= set(points)
    slopes = [(b[0] - a[0]) / (b[1] - a[1]) for a, b in pairwise(kept)]
    assert all(s < 0 for s in slopes)
    assert slopes == sorted(slopes)
    for cycles, held, _ in points:
        left = [k for k in kept if k[1] <= held]
        if left:
            a = left[-1]
            b = next((k for k in kept if k[1] > held), None)
            line = a[0] if b is None else a[0] + (b[0] - a[0]) * (held - a[1]) / (b[1] - a[1])
            assert cycles >= line - 1e-9
