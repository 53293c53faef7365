"""Training with weights packed in planes: the same states as side by side, on all engines, in fewer cycles."""

from dataclasses import replace

import numpy as np
import pytest
from compiled import composed_program, follow
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fast_training import equal, same_states

from mgc.sim import Simulator
from mgc.targets.loader import load_target
from mgc.training.trainee import Trainee

NARROW = {"cols": 32}
CHIPS = {
    "default": {},
    "narrow": NARROW,
    "few bits": {**NARROW, "adc_bits": 4},
    "offset": {**NARROW, "encoding": "offset", "cell_bits": 3},
    "scale": {**NARROW, "adc_mode": "scale"},
}


ONE_WORKER = pytest.mark.xdist_group("dcgan narrow")  # it is compiled once


def chip(name, **training):
    found = load_target("liu2018")
    return found.model_copy(
        update={
            "crossbar": found.crossbar.model_copy(update=CHIPS[name]),
            "training": found.training.model_copy(update={"copies": "least", **training}),
        }
    )


def widths(program):
    return {g.arithmetic.plane_columns for g in program.groups}


def states_after(program, data, engine, numerics, iterations):
    trainee = Trainee(Simulator(program, engine, numerics, seed=1))
    for i in range(iterations):
        trainee.step([{p.name: data[p.name][i] for p in trainee.inputs}])
    return trainee


@pytest.mark.parametrize(
    ("net", "name"), [*(("mlp", name) for name in CHIPS), pytest.param("dcgan", "narrow", marks=ONE_WORKER)]
)
def test_engines_agree(net, name):
    program, _, data, *_ = composed_program(net, "ts", "bce", "adam", target=chip(name))
    assert max(widths(program)) > 0
    equal(program, data, 2)


@pytest.mark.parametrize("name", ["default", "narrow", "offset"])
def test_where_nothing_clips_packings_give_one_result(name):
    planes, side_by_side = (
        composed_program("mlp", "ts", "bce", "adam", target=chip(name, packing=p)) for p in ("planes", "interleaved")
    )
    assert max(widths(planes[0])) > max(widths(side_by_side[0])) == 0
    same_states(*(states_after(p[0], p[2], "fast", "quantized", 3) for p in (side_by_side, planes)))


@ONE_WORKER
def test_planes_take_less_time_and_fewer_conversions():
    planes, side_by_side = (
        composed_program("dcgan", "ts", "bce", "adam", target=chip("narrow", packing=p))[0]
        for p in ("planes", "interleaved")
    )
    assert planes.iteration_cycles < side_by_side.iteration_cycles
    assert planes.meta["energy"]["adc"] < side_by_side.meta["energy"]["adc"]


def test_planes_that_may_clip_run_alike_and_follow_pytorch():
    program, _, data, expected, names = composed_program(
        "mlp", "ts", "bce", "adam", target=chip("few bits", transposed_clip=True)
    )
    assert any(g.arithmetic.transposed_full_scale > g.arithmetic.adc_max for g in program.groups)
    equal(program, data, 2)
    follow(program, data, expected, names)


@pytest.mark.parametrize("name", ["default", "narrow"])
def test_devices_agree(name):
    program, _, data, *_ = composed_program("mlp", "ts", "bce", "adam", target=chip(name))
    reference, fast = (states_after(program, data, engine, "device", 2) for engine in ("reference", "fast"))
    same_states(reference, fast)
    ideal = states_after(program, data, "fast", "quantized", 2).state()
    assert any((ideal[k] != v).any() for k, v in fast.state().items() if np.issubdtype(v.dtype, np.floating))


chips = st.fixed_dictionaries(
    {
        "cols": st.sampled_from([8, 24, 64, 128]),
        "cell_bits": st.integers(1, 4),
        "adc_bits": st.integers(3, 9),
        "dac_bits": st.integers(1, 2),
        "adc_mode": st.sampled_from(["clip", "scale"]),
        "encoding": st.sampled_from(["differential", "offset"]),
    }
)


@settings(deadline=None, max_examples=5)
@given(chips, st.booleans(), st.integers(2, 16))
def test_engines_agree_on_random_chips(crossbar, clip, bits):
    found = load_target("liu2018")
    training = found.training.model_copy(update={"copies": "least", "transposed_clip": clip, "master_bits": bits})
    update = {"crossbar": found.crossbar.model_copy(update=crossbar), "training": training}
    program, _, data, *_ = composed_program("mlp", "ts", "bce", "adam", target=found.model_copy(update=update))
    for a in (g.arithmetic for g in program.groups):
        side_by_side = replace(a, plane_columns=0).transposed_full_scale
        assert clip or a.transposed_full_scale <= max(a.adc_max, side_by_side)
    equal(program, data, 2)


def test_a_chip_that_is_too_small_for_fast_planes_keeps_fewer_crossbars():
    roomy, side_by_side = (
        composed_program("mlp", "ts", "bce", "adam", target=chip("narrow", packing=p))[0]
        for p in ("planes", "interleaved")
    )
    needed = [sum(g.crossbars_per_replica for g in p.groups) for p in (roomy, side_by_side)]
    assert needed[0] > needed[1]
    size = {"tiles_per_chip": 1, "macros_per_tile": 1, "crossbars_per_macro": needed[1]}
    target = chip("narrow")
    tight = target.model_copy(update={"structure": target.structure.model_copy(update=size)})
    program = composed_program("mlp", "ts", "bce", "adam", target=tight)[0]
    assert sum(g.crossbars_per_replica for g in program.groups) == needed[1]
