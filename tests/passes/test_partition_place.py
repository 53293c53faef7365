"""Weights on crossbars: every cell once, exact columns counted alike, capacity, row orders; groups on tiles."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import chain, level2, networks, small_target
from pass_graphs import state_of

from mgc.ir.graph import Graph, evaluate
from mgc.ir.mapped import CHANNEL_MAJOR, TAP_MAJOR, Mvm, MvmPart, Vec, Windows
from mgc.isa import crossbar as isa
from mgc.passes.mapping.crossbar_rows import exact_columns
from mgc.passes.mapping.durations import Durations, streamed_input, windows_of
from mgc.passes.mapping.groups import Allocate, PlaceGroups, placement_of
from mgc.passes.mapping.packing import crossbars_of
from mgc.passes.mapping.partition import CapacityError, Partition, order_rows
from mgc.passes.mapping.place import near_layers, snake_of_tiles, traffic_of
from mgc.targets.cost import CostModel
from mgc.targets.description import Crossbar
from mgc.targets.loader import load_target


@st.composite
def crossbars(draw) -> Crossbar:
    base = load_target("liu2018").crossbar
    weight_bits = draw(st.integers(2, 16))
    return base.model_copy(
        update={
            "rows": draw(st.sampled_from([3, 4, 16, 128])),
            "cols": draw(st.sampled_from([4, 7, 16])),
            "cell_bits": draw(st.integers(1, 8)),
            "weight_bits": weight_bits,
            "input_bits": draw(st.integers(2, 8)),
            "dac_bits": draw(st.integers(1, 2)),
            "adc_bits": draw(st.integers(2, 10)),
            "encoding": draw(st.sampled_from(["differential", "offset"])),
        }
    )


def arithmetic_of(crossbar: Crossbar, plane_columns: int = 0) -> isa.Arithmetic:
    packing = {"plane_columns": plane_columns}
    return isa.Arithmetic(
        **packing, **{k: getattr(crossbar, k) for k in isa.Arithmetic.__dataclass_fields__.keys() - packing}
    )


@settings(max_examples=150, deadline=None)
@given(
    crossbars(),
    st.integers(1, 2),
    st.integers(1, 40),
    st.integers(1, 11),
    st.booleans(),
    st.none() | st.integers(2, 16),
    st.integers(0, 99),
)
def test_exact_columns_are_those_of_the_instruction_set(crossbar, matrices, rows, cols, signed, input_bits, seed):
    rng = np.random.default_rng(seed)
    low, high = arithmetic_of(crossbar).weight_range
    weights = np.rint(rng.uniform(low, high, (matrices, rows, cols)) * rng.random() ** 3)
    weights = weights.astype(np.int8 if crossbar.weight_bits <= 8 else np.int16)
    arithmetic = arithmetic_of(crossbar)
    if input_bits is not None:
        input_bits = max(input_bits, crossbar.input_bits)
        arithmetic = replace(arithmetic, input_bits=input_bits)
    want = isa.exact_columns(weights, arithmetic, signed)
    assert np.array_equal(exact_columns(weights, crossbar, signed=signed, input_bits=input_bits), want)


@settings(max_examples=60, deadline=None)
@given(crossbars(), st.integers(1, 3), st.integers(1, 20), st.integers(1, 9), st.integers(0, 9))
def test_every_cell_of_every_weight_lands_exactly_once_and_reads_back(crossbar, matrices, rows, cols, plane_columns):
    slices, signs, width = crossbar.slices(), crossbar.signs, min(plane_columns, crossbar.cols)
    index = np.indices((matrices, rows, cols, slices, signs))
    if width:
        plane, blocks = index[3] * signs + index[4], -(-slices * signs // (crossbar.cols // width))
        held = -(-slices * signs // blocks)
        across = index[2] // width * blocks + plane // held
        bitline = plane % held * width + index[2] % width
    else:
        across, bitline = np.divmod((index[2] * slices + index[3]) * signs + index[4], crossbar.cols)
    row_blocks, column_blocks = crossbar.row_blocks(rows), crossbar.column_blocks(cols, plane_columns=width)
    block = (index[0] * row_blocks + index[1] // crossbar.rows) * column_blocks + across
    where = block, index[1] % crossbar.rows, bitline
    part = MvmPart("p", matrices, rows, cols, CHANNEL_MAJOR, Windows((1,), (1,), (0,), (1,), (1,), (0,), (1,)))
    crossbars = crossbars_of(part, crossbar, width)
    flat = (where[0] * crossbar.rows + where[1]) * crossbar.cols + where[2]
    assert len(np.unique(flat)) == flat.size
    assert (where[0].max(), where[1].max() < crossbar.rows, where[2].max() < crossbar.cols) == (
        crossbars - 1,
        True,
        True,
    )
    array = np.full((crossbars, crossbar.rows, crossbar.cols), -1, np.int64)
    levels = np.random.default_rng(0).integers(0, 1 << crossbar.cell_bits, index[0].shape)
    array[where] = levels
    assert np.array_equal(array[where], levels)
    assert (array >= 0).sum() == levels.size
    group = isa.CrossbarGroup(
        0, "g", matrices, rows, cols, arithmetic_of(crossbar, width), "w", "r", 1, (0,), tuple(range(crossbars))
    )
    assert (group.row_blocks, group.column_blocks) == (row_blocks, column_blocks)
    assert group.crossbars_per_replica == crossbars
    assert group.arithmetic.planes_per_crossbar == crossbar.transposed_turns(plane_columns=width)


def one_mvm(graph: Graph) -> tuple[Mvm, list[np.ndarray]]:
    (node,) = [n for n in graph.nodes if isinstance(n.op, Mvm)]
    assert isinstance(node.op, Mvm)
    return node.op, [graph.constants[v].data for v in node.inputs[1:]]


def skewed_network(*, by_channel: bool) -> Graph:
    """A 3x3 convolution of 16 channels whose large weights share a channel, or a tap."""
    graph = level2(chain(1, 16), small_target())
    (node,) = [n for n in graph.nodes if isinstance(n.op, Mvm)]
    assert isinstance(node.op, Mvm)
    weights = graph.constants[node.inputs[1]]
    data = np.zeros((16, 9, 16), np.int8)
    data[(slice(0, 2) if by_channel else slice(None), slice(None) if by_channel else 0)] = 127
    weights.data = data.reshape(1, 144, 16)
    return graph


def test_the_row_order_that_spreads_large_weights_is_taken_and_changes_no_result():
    target = small_target()
    crossbar = target.crossbar.model_copy(update={"adc_bits": 5})
    target = target.model_copy(update={"crossbar": crossbar})
    for by_channel, order in ((True, TAP_MAJOR), (False, CHANNEL_MAJOR)):
        graph = skewed_network(by_channel=by_channel)
        x = {v.name: np.random.default_rng(0).normal(size=v.shape).astype(np.float32) for v in graph.inputs}
        want = evaluate(graph, x)["y"]
        before, weights = one_mvm(graph)
        done = order_rows(graph.copy(), target)
        after, permuted = one_mvm(done)
        assert before.parts[0].row_order == CHANNEL_MAJOR
        assert after.parts[0].row_order == order
        assert exact_columns(permuted[0], crossbar).all()
        assert exact_columns(weights[0], crossbar).all() == (order == CHANNEL_MAJOR)
        assert np.array_equal(evaluate(done, x)["y"], want)
        assert sorted(map(tuple, permuted[1][0])) == sorted(map(tuple, weights[1][0]))


def test_too_many_crossbars_say_how_many_where_and_what_to_do():
    target = small_target()
    graph = level2(chain(6, 16), target)
    needed = 6 * 9 * -(-16 * 8 // 16)
    with pytest.raises(CapacityError) as error:
        Partition().run(state_of(graph, target=target, micro_batches=2))  # one could be run in turns
    assert (error.value.needed, error.value.available) == (needed, 192)
    for part in (f"{needed:,}", "192", "conv_0", "chips = 3", "weight_bits", "cell_bits"):
        assert part in str(error.value)
    larger = target.model_copy(update={"structure": target.structure.model_copy(update={"chips": 3})})
    done = Allocate().run(Partition().run(state_of(graph, target=larger)))
    assert sum(g.crossbars_per_replica for g in done.module.attributes["groups"]) == needed


def test_demands_follow_the_cost_model():
    target = load_target("liu2018")
    graph = level2(chain(2), target)
    durations, cost = Durations(target), CostModel(target)
    for node in graph.nodes:
        if isinstance(node.op, Mvm):
            part = node.op.parts[0]
            cycles, once = durations.window(3, streamed_input(node))
            windows = windows_of(node.op, part)
            for replicas in (1, 2, 5, windows):
                want = cost.mvm_cycles(windows, replicas=replicas, row_blocks=3, **streamed_input(node))
                assert once + -(-windows // replicas) * cycles == want


@settings(max_examples=30, deadline=None)
@given(networks())
def test_placement_is_close_and_complete(graph):
    target = small_target(chips=40)
    state = Allocate().run(Partition().run(state_of(level2(graph, target), target=target)))
    replicas = state.module.attributes["split"].allocation.replicas
    state = PlaceGroups().run(state)
    mapped, placement = state.graph, placement_of(state.entry, state)
    assert len(placement.groups) == len(replicas)
    assert placement == placement_of(state.entry, state)
    served = list(placement.served_by.values())
    for a in served:
        for b in served:
            assert a == b or not set(a.tiles) & set(b.tiles)  # a tile's units serve one layer
    for node in mapped.nodes:
        layer = placement.near[node]
        assert layer is not None or not any(isinstance(n.op, Mvm) for n in mapped.nodes) or _apart(mapped, node)
        if isinstance(node.op, Mvm):
            assert layer == node.outputs[0].name


def _apart(graph: Graph, node) -> bool:
    """Whether a node neither depends on a crossbar product nor feeds one."""
    producers, users = graph.producers(), graph.users()
    up, down = [node], [node]
    while up:
        n = up.pop()
        if isinstance(n.op, Mvm):
            return False
        up += (producers[v] for v in n.inputs if v in producers)
    while down:
        n = down.pop()
        if isinstance(n.op, Mvm):
            return False
        down += (u for v in n.outputs for u in users.get(v, []))
    return True


def test_neighbours_on_the_snake_are_neighbours_on_the_mesh():
    target = load_target("liu2018")
    order = snake_of_tiles(target)
    assert sorted(order) == list(range(target.structure.tiles))
    cost = CostModel(target)
    assert all(cost.route(a, b).hops <= 2 for a, b in pairwise(order))


def test_traffic_runs_between_the_homes_of_kernels():
    target = load_target("liu2018")
    graph = level2(chain(3), target)
    layers = [n for n in graph.nodes if isinstance(n.op, Mvm)]
    a, b, c = (n.outputs[0].name for n in layers)
    near = near_layers(graph, dict(zip(layers, (a, b, c), strict=True)), target)
    traffic = traffic_of(graph, near, target)
    assert set(traffic) == {(a, b), (b, c)}
    assert set(traffic.values()) == {4 * 36}  # codes of one byte
    kernels = [n for n in graph.nodes if isinstance(n.op, Vec)]
    assert [near[k] for k in kernels] == [a, a, b, c]
