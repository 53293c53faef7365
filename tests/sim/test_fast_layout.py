"""Frames, rows, moves and windows of the fast engine against NumPy."""

import random

import numpy as np
import pytest
from builder import ProgramBuilder, changed_fields, dense_strides, quant_attributes
from hypothesis import given, settings
from test_fast import SEEDS, assert_same_bits, run

from mgc.functions.windows import Layout, Windows
from mgc.isa.crossbar import Arithmetic
from mgc.isa.instructions import Mvm, Piece
from mgc.sim.fast import FastEngine, layout
from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.fast.values import Element, Frame, GraphValue, Part, Rows
from mgc.sim.fast.windows import shared_products
from mgc.sim.reference import ReferenceEngine

F32 = np.dtype(np.float32)
PLAIN = Arithmetic(
    rows=128, cols=128, cell_bits=2, dac_bits=1, adc_bits=12, adc_mode="clip", encoding="differential", weight_bits=8,
    input_bits=8,
)  # fmt: skip


def compute(build, **feeds):
    """The array that `build(graph, names)` names."""
    g = GraphBuilder()
    names = {n: g.input(n, a.dtype) for n, a in feeds.items()}
    g.output(build(g, **names), "out", next(iter(feeds.values())).dtype)
    session = g.session(1)
    (array,) = session.run(["out"], feeds)
    return array


@pytest.mark.parametrize(
    ("shape", "strides", "size", "ok"),
    [
        ((2, 3, 4, 5), (60, 20, 5, 1), 120, True),
        ((2, 3, 20), (60, 1, 3), 120, True),
        ((1, 7, 1, 1), (7, 1, 1, 1), 7, True),
        ((1, 3, 4), (12, 4, 2), 24, False),  # leaves gaps
        ((1, 3, 4), (12, 1, 1), 6, False),  # overlaps
        ((2, 3, 4), (1, 8, 2), 24, False),  # batch innermost
        ((1, 3, 4), (12, 4, 1), 24, False),  # a part of the memory
    ],
)
def test_frames_are_permutations_with_the_batch_outermost(shape, strides, size, ok):
    frame = Frame.of(Layout(shape, strides), size)
    assert (frame is not None) == ok
    if frame is not None:
        memory = np.arange(size)
        view = np.lib.stride_tricks.as_strided(memory, shape, [8 * s for s in strides])
        expected = np.moveaxis(view, 1, -1).reshape(frame.batch, frame.positions, frame.channels)
        np.testing.assert_array_equal(frame.view(memory), expected)
        np.testing.assert_array_equal(frame.addresses(), expected)


def test_equal_memory_has_equal_frames():
    assert Frame.channels_first((1, 3, 4, 5)) == Frame.of(Layout((1, 3, 20), (60, 20, 1)), 60)
    assert Frame.channels_first((1, 3, 4, 5)) != Frame.channels_last((1, 4, 5, 3))


@settings(max_examples=200, deadline=None)
@given(SEEDS)
def test_forms_convert_into_each_other(seed):
    rng = random.Random(seed)
    rank = rng.randint(2, 5)
    shape = tuple(rng.randint(1, 4) for _ in range(rank))
    frame = rng.choice([Frame.channels_first, Frame.channels_last])(shape)
    assert frame is not None
    k = rng.randint(1, 3)
    x = np.random.default_rng(0).normal(size=(k * shape[0], *shape[1:])).astype(np.float32)

    def there_and_back(g, x):
        rows = layout.rows_of(g, GraphValue(shape, F32, Element(F32), dense=x), frame)
        # shuffle and cut the rows into folded parts, some of them unused
        order = list(range(frame.positions)) + [rng.randrange(frame.positions) for _ in range(rng.randint(0, 3))]
        rng.shuffle(order)
        cut = rng.randint(1, len(order))
        parts = []
        for chosen in (order[:cut], order[cut:]):
            if chosen:
                tensor = layout.take(g, rows, np.array(chosen), Element(F32))
                part = Part(tensor, len(chosen))
                fold = max(f for f in (1, 2, 3) if len(chosen) % f == 0)
                parts.append(layout.folded(g, part, frame.channels, fold))
        index = np.array([order.index(p) for p in range(frame.positions)])
        return layout.dense(g, GraphValue(shape, F32, Element(F32), rows=Rows(frame, tuple(parts), index)))

    np.testing.assert_array_equal(compute(there_and_back, x=x), x)


def test_positions_without_a_row_are_zero():
    frame = Frame.channels_first((1, 2, 3))
    assert frame is not None

    def holes(g, x):
        rows = Rows(frame, (Part(x, 1),), np.array([-1, 0, -1]))
        return layout.dense(g, GraphValue((1, 2, 3), F32, Element(F32), rows=rows))

    x = np.array([[[5.0, 6.0]], [[7.0, 8.0]]], np.float32)
    expected = np.zeros((2, 2, 3), np.float32)
    expected[:, :, 1] = x[:, 0]
    np.testing.assert_array_equal(compute(holes, x=x), expected)


def network(middle):
    """input -> quant -> mvm (1x1) -> dequant -> `middle(b, x)` -> output: `middle` meets a value in rows."""
    b = ProgramBuilder()
    x = b.input((1, 4, 3, 5))
    k = b.kernel()
    codes = k.store(k.step("quant", x, attributes=quant_attributes(1 / 32, PLAIN, True)), "code")
    k.emit()
    acc = b.buffer("acc", "int64", (1, 6, 3, 5))
    weights = np.random.default_rng(1).integers(-127, 128, (1, 4, 6)).astype(np.int8)
    b.mvm(b.group(weights, weights / 64, PLAIN), codes, acc, True, count=[3, 5], taps=[1, 1], in_base=[0, 0],
          in_stride=[1, 1], in_dilation=[1, 1], out_base=[0, 0], out_stride=[1, 1])  # fmt: skip
    k = b.kernel()
    scale = b.constant(np.full((6, 1, 1), 1 / 2048))
    bias = b.constant(np.linspace(-1, 1, 6).reshape(6, 1, 1))
    y = k.store(k.step("dequant", acc, scale, bias, b.constant(np.zeros((6, 1, 1), np.float32))))
    k.emit()
    b.output(middle(b, y))
    return b.build()


def piece(ref, extents, src_strides, dst_strides, src_base=0, dst_base=0):
    return Piece(ref, tuple(extents), src_base, tuple(src_strides), dst_base, tuple(dst_strides))


def padded(b, x):
    inner = piece(x, (1, 6, 3, 5), dense_strides((1, 6, 3, 5)), dense_strides((1, 6, 5, 7)), dst_base=8)
    return b.move([inner], (1, 6, 5, 7), "float32")


def filled(b, x):
    inner = padded(b, x)
    fill = b.constant(np.array([2.5], np.float32))
    whole = piece(fill, (1, 6, 5, 7), (0,) * 4, dense_strides((1, 6, 5, 7)))
    copy = piece(x, (1, 6, 3, 5), dense_strides((1, 6, 3, 5)), dense_strides((1, 6, 5, 7)), dst_base=8)
    del inner
    return b.move([whole, copy], (1, 6, 5, 7), "float32")


def concatenated(b, x):
    strides = dense_strides((1, 12, 3, 5))
    own = dense_strides((1, 6, 3, 5))
    pieces = [piece(x, (1, 6, 3, 5), own, strides), piece(x, (1, 6, 3, 5), own, strides, dst_base=90)]
    return b.move(pieces, (1, 12, 3, 5), "float32")


def channels_sliced(b, x):
    return b.move([piece(x, (1, 2, 3, 5), (90, 15, 5, 1), (30, 15, 5, 1), src_base=30)], (1, 2, 3, 5), "float32")


def upsampled(b, x):
    return b.move([piece(x, (6, 3, 2, 5, 2), (15, 5, 0, 1, 0), (60, 20, 10, 2, 1))], (1, 6, 6, 10), "float32")


def flipped(b, x):
    return b.move([piece(x, (6, 3, 5), (15, 5, -1), (15, 5, 1), src_base=4)], (1, 6, 3, 5), "float32")


def transposed(b, x):
    return b.transpose(x, (0, 2, 3, 1))


def channels_reversed(b, x):
    return b.move([piece(x, (6, 15), (-15, 1), (15, 1), src_base=75)], (1, 6, 3, 5), "float32")


def spatial_constant(b, x):
    k = b.kernel()
    y = k.store(k.step("add", x, b.constant(np.arange(15, dtype=np.float32).reshape(3, 5))))
    k.emit()
    return y


def channel_of_upsampled(b, x):
    k = b.kernel()
    y = k.store(k.step("mul", upsampled(b, x), b.constant(np.arange(60, dtype=np.float32).reshape(6, 10))))
    k.emit()
    return y


def gated(b, x):
    """x * sigmoid-like(mean over positions): an operand that is broadcast over rows."""
    k = b.kernel()
    gate = k.step("hard_sigmoid", k.step("reduce_max", x, attributes=(1, 2, 3)), attributes=(0.2, 0.5))
    y = k.store(k.step("mul", x, gate))
    k.emit()
    return y


def added_to_moved(b, x):
    """Two operands whose rows lie differently."""
    k = b.kernel()
    y = k.store(k.step("add", flipped(b, x), x))
    k.emit()
    return y


MIDDLES = [
    padded, filled, concatenated, channels_sliced, upsampled, flipped, transposed, channels_reversed, spatial_constant,
    channel_of_upsampled, gated, added_to_moved,
]  # fmt: skip


@pytest.mark.parametrize("middle", MIDDLES, ids=lambda m: m.__name__)
def test_values_in_rows_are_moved_and_combined(middle):
    program = network(middle)
    inputs = {"in0": np.random.default_rng(0).normal(size=(3, 4, 3, 5)).astype(np.float32)}
    expected = run(ReferenceEngine(program, "quantized"), program, inputs, 3)
    engine = FastEngine(program, "quantized", 1)
    assert_same_bits(run(engine, program, inputs, 3), expected)
    assert all(e.lowered for e in engine.plan.placements)


@pytest.mark.parametrize(
    ("middle", "kernel"),
    [(padded, "rows"), (concatenated, "rows"), (upsampled, "rows"), (flipped, "rows"), (channels_sliced, "rows"),
     (filled, "rows"), (transposed, "rows")],
    ids=lambda m: getattr(m, "__name__", m),
)  # fmt: skip
def test_moves_keep_rows_where_channels_stay_together(middle, kernel):
    engine = FastEngine(network(middle), "quantized", 1)
    assert engine.plan.placements[-1].kernel == kernel


def mvm(**fields):
    windows = Windows((32,), (2,), (-1,), (1,), (1,), (0,), (2,))
    plain = Mvm(
        id=0, unit=0, duration=1, after=(), after_previous=(), source=0, group=0, src=0, dst=1, signed=False,
        tap_fastest=True, windows=windows, input=Layout.nchw((1, 4, 32)), output=Layout.nchw((1, 3, 64)),
    )  # fmt: skip
    return changed_fields(plain, **fields)


def test_residue_classes_share_windows_where_that_is_cheaper():
    classes = [mvm(), mvm(in_base=(0,), out_base=(1,))]
    # 3 columns each: a product each would run mostly empty tiles
    (shared,) = shared_products(classes, channels=4, cols=3)
    assert len(shared.reads) == 33
    np.testing.assert_array_equal(shared.reads[0], [-1, 0])
    np.testing.assert_array_equal(shared.reads[32], [31, -1])
    np.testing.assert_array_equal(shared.members[0], np.arange(32))
    np.testing.assert_array_equal(shared.members[1], np.arange(1, 33))
    np.testing.assert_array_equal(shared.writes[1], np.arange(1, 64, 2))
    # few windows of many channels: extra windows would cost more than the copies
    short = [mvm(count=(2,), src_shape=(1, 4, 2), dst_shape=(1, 3, 4)),
             mvm(count=(2,), src_shape=(1, 4, 2), dst_shape=(1, 3, 4), in_base=(0,), out_base=(1,))]  # fmt: skip
    assert len(shared_products(short, channels=4096, cols=1024)) == 2


def test_equal_windows_always_share_a_product():
    classes = [mvm(in_base=(0,), count=(1,), taps=(1,), out_base=(j,)) for j in range(5)]
    (shared,) = shared_products(classes, channels=64, cols=64)
    assert len(shared.reads) == 1
    assert len(shared.instructions) == 5
