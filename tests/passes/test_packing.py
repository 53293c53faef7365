"""The packing of planes: what is chosen is allowed, and nothing else that is allowed keeps crossbars busy for less."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.functions.windows import Windows
from mgc.ir.mapped import CHANNEL_MAJOR, MvmPart
from mgc.isa.crossbar import Arithmetic, encode_weights
from mgc.isa.transposed import transposed_exact_rows, transposed_product
from mgc.passes.mapping.packing import GroupUse, crossbars_of, plane_columns_of
from mgc.passes.mapping.reads import Reads
from mgc.targets.loader import load_target

NONE = Windows((), (), (), (), (), (), ())


def use(rows=64, cols=64, matrices=1, forward=1, transposed=1, parts=1, frozen=None):
    part = MvmPart("p", matrices, rows, cols, CHANNEL_MAJOR, NONE)
    return GroupUse(part, Reads(forward, transposed, parts), frozen)


def target_with(clip=False, packing="planes", **crossbar):
    chip = load_target("liu2018")
    training = chip.training.model_copy(update={"transposed_clip": clip, "packing": packing})
    crossbar = chip.crossbar.model_copy(update={"weight_bits": 16, **crossbar})
    return chip.model_copy(update={"training": training, "crossbar": crossbar})


def arithmetic_of(target, plane_columns):
    keys = Arithmetic.__dataclass_fields__.keys() - {"plane_columns"}
    return Arithmetic(**{k: getattr(target.crossbar, k) for k in keys}, plane_columns=plane_columns)


targets = st.builds(
    target_with,
    clip=st.booleans(),
    rows=st.sampled_from([4, 16, 128]),
    cols=st.sampled_from([1, 4, 7, 16, 64]),
    cell_bits=st.integers(1, 4),
    dac_bits=st.integers(1, 2),
    adc_bits=st.integers(1, 9),
    weight_bits=st.integers(2, 16),
    adc_mode=st.sampled_from(["clip", "scale"]),
    encoding=st.sampled_from(["differential", "offset"]),
)
uses = st.builds(
    use,
    rows=st.integers(1, 40),
    cols=st.integers(1, 90),
    matrices=st.integers(1, 3),
    forward=st.integers(0, 9),
    transposed=st.integers(0, 9),
    parts=st.integers(1, 3),
)


@settings(deadline=None)
@given(targets, st.lists(uses, min_size=1, max_size=3), st.booleans())
def test_nothing_that_is_allowed_is_better(target, layer, least):
    crossbar = target.crossbar
    chosen = plane_columns_of(layer, target, least=least)
    allowed = [
        w
        for w in range(crossbar.cols + 1)
        if target.training.transposed_clip
        or arithmetic_of(target, w).transposed_full_scale
        <= max(crossbar.max_code, arithmetic_of(target, 0).transposed_full_scale)
    ]
    assert chosen in allowed

    def cost(w):
        turns = arithmetic_of(target, w).planes_per_crossbar
        sizes = [crossbars_of(u.part, crossbar, w) for u in layer]
        return sum(sizes), sum(s * u.reads.turns(turns) for s, u in zip(sizes, layer, strict=True))

    assert cost(chosen)[not least] == min(cost(w)[not least] for w in allowed)
    if least or not any(u.reads.transposed for u in layer):
        assert cost(chosen)[0] == cost(0)[0]  # nothing takes fewer crossbars than side by side


@pytest.mark.parametrize(
    ("changed", "found"),
    [({}, 64), ({"clip": True}, 128), ({"packing": "interleaved"}, 0), ({"adc_bits": 6}, 21), ({"adc_bits": 4}, 8)],
)
def test_wide_layers_of_the_default_target(changed, found):
    """64 x 3 of 255; 128 x 3 may clip; with 6 bits 21 x 3 = 63; with 4 bits not even 8 x 3 fit, as side by side."""
    assert plane_columns_of([use(512, 512)], target_with(**changed)) in ((0, 8) if found == 8 else (found,))


def test_a_narrow_layer_takes_no_more_crossbars_than_side_by_side():
    target = target_with()
    for cols in (1, 3, 8, 12):
        chosen = plane_columns_of([use(300, cols)], target)
        part = use(300, cols).part
        assert crossbars_of(part, target.crossbar, chosen) == crossbars_of(part, target.crossbar)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 3), st.integers(0, 2**31))
def test_weights_that_stay_may_fill_a_plane_that_they_never_clip(level, seed):
    rng = np.random.default_rng(seed)
    weights = rng.integers(-level, level, (1, 30, 128), endpoint=True)
    target = target_with(rows=16)
    layer = [use(30, 128, frozen=weights), use(30, 128, transposed=0, frozen=weights * 0 + 3)]
    chosen = plane_columns_of(layer, target)
    a = arithmetic_of(target, chosen)
    assert transposed_exact_rows(weights, a, True).all()
    codes = rng.integers(-128, 128, (4, 128))
    assert np.array_equal(transposed_product(codes, encode_weights(weights[0], a), a, True), codes @ weights[0].T)
    full = arithmetic_of(target, 128)
    assert (chosen == 128) == bool(transposed_exact_rows(weights, full, True).all())
    assert plane_columns_of([replace(u, frozen=None) for u in layer], target) == 64
