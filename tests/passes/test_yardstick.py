"""The yardstick: cycles of a GAN iteration of unit stages, L_G = L_D = 5, batch 64."""

import pytest
from yardstick import BATCH, D, G, Gan

from mgc.passes.streaming.dataflow import DATAFLOWS, Dataflow

SEQUENTIAL, PIPELINED, PARALLEL = (DATAFLOWS[n] for n in ("sequential", "pipelined", "parallel"))
REAL_BESIDE_FAKE = Dataflow(phases=False)

# hardware_constants.md, section 2.4, as formulas and as the numbers that the design states
NO_PIPELINE = (2 * D + 1) * BATCH + (G + 2 * D + 1) * BATCH + 1 + (2 * G + 2 * D + 1) * BATCH + 1
IN_TURN = 3 * G + 6 * D + 3 * BATCH + 2
BESIDE = 3 * G + 4 * D + 2 * BATCH + 2
SHARED = 2 * G + 2 * D + BATCH + 1


def test_the_formulas_are_those_of_the_design():
    assert (NO_PIPELINE, IN_TURN, BESIDE, SHARED) == (3074, 239, 165, 85)


@pytest.mark.parametrize(
    ("flow", "copies", "graph", "published"),
    [
        (SEQUENTIAL, 1, {"share_forward": False}, 3074),
        (PIPELINED, 1, {"share_forward": False}, 239),
        (REAL_BESIDE_FAKE, 2, {"share_forward": False}, 165),
        (PARALLEL, 3, {"old_discriminator": True}, 85),
    ],
)
def test_under_the_same_rules_the_scheduler_finds_the_published_cycles(flow, copies, graph, published):
    parts, plan = Gan(copies).iteration(**graph).schedule(flow)
    assert plan.status == "OPTIMAL"
    assert plan.makespan == plan.lower_bound == published
    assert parts == (1 if flow is SEQUENTIAL else BATCH)


@pytest.mark.parametrize(
    ("flow", "copies", "found", "published"),
    [
        (SEQUENTIAL, 1, 3074 - G * BATCH, 3074),
        (PIPELINED, 1, 239 - G, 239),
        (PARALLEL, 2, 165 - G, 165),
    ],
)
def test_with_the_generators_forward_shared_it_is_better(flow, copies, found, published):
    _, plan = Gan(copies).iteration().schedule(flow)
    assert plan.status == "OPTIMAL"
    assert plan.makespan == found < published


def test_one_discriminator_is_shared_in_time():
    """Real and fake samples take turns on its layers: no worse than one after the other."""
    _, plan = Gan(1).iteration().schedule(PARALLEL)
    assert plan.makespan <= IN_TURN - G
    assert plan.gap < 0.1
