"""DIFF: exact in `float`, within its stated table error and bit for bit as written in `quantized`; rules; text."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from builder import ProgramBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.ir.build import Build
from mgc.ir.graph import Graph
from mgc.ir.ops import DiffBlock
from mgc.ir.types import tensor_type_of
from mgc.isa.asm import assemble, disassemble
from mgc.isa.error import ProgramError
from mgc.isa.instruction import Instruction
from mgc.isa.instructions import BUFFER, CONSTANT, Diff, Ref
from mgc.isa.program import Program
from mgc.passes.losses.facts import GraphFacts
from mgc.passes.losses.region import Region
from mgc.passes.losses.tabulate import tabulate
from mgc.sim import Simulator
from mgc.targets.codegen.diff import diff_instruction
from mgc.targets.codegen.emit import Walk

HEADER = {f.name for f in fields(Instruction)}


def emitted(walk, node, segments):
    """The DIFF of a node, as codegen's walk over a graph makes it."""
    operands = [walk.ref(v) for v in node.inputs]
    results = [walk.buffer_of.get(v, -1) for v in node.outputs]
    return diff_instruction(dict.fromkeys(HEADER, 0), node, segments, operands, results, walk.table)


FUNCTIONS = ("cross-entropy", "minimax", "least-squares", "wasserstein", "hinge")


def tabulated(make, **fields):
    """A block for the function that `make(build, u)` adds to a graph."""
    graph = Graph("f")
    u = graph.add_input("u", tensor_type_of(np.zeros(1)))
    y = make(Build(graph), u)
    region = Region.of(GraphFacts(graph, ()), y)
    return DiffBlock("tabulated", table=tabulate(region, u), **fields)


TABLES = {
    "tanh": tabulated(lambda g, u: g.unary("tanh", u)),
    "quartic": tabulated(lambda g, u: g.binary("pow", u, 4.0), weight=0.01),
    "distance": tabulated(lambda g, u: g.unary("abs", g.sub(u, 0.3)), pairing="pair"),
    "steep": tabulated(lambda g, u: g.unary("exp", g.mul(u, 4.0)), count=1),
}


def diff_of(op, arrays, segments=256):
    """(a program that runs one block on its inputs, its DIFF)."""
    builder = ProgramBuilder(micro_batch=1, micro_batches=1, batched=False)
    graph = Graph("block")
    values = [graph.add_input(f"x{i}", tensor_type_of(a)) for i, a in enumerate(arrays)]
    outputs = graph.add_multi(op, *values)
    walk = Walk(graph, {}, None)  # type: ignore[arg-type]
    for value in values:
        walk.buffer_of[value] = builder.input(value.shape, batched=False).index
    results = [builder.buffer("real", "float32", v.shape) for v in outputs]
    walk.buffer_of |= {v: r.index for v, r in zip(outputs, results, strict=True)}
    made = emitted(walk, graph.nodes[0], segments)
    for constant in walk.constants:
        builder.constant(walk.tensors[constant.tensor])
    builder.add(Diff, "diff", **{f.name: getattr(made, f.name) for f in fields(made) if f.name not in HEADER})
    for ref in results:
        builder.output(ref, batched=False)
    return builder.build(), made


def run(program, arrays, numerics, engine="reference"):
    feeds = {f"in{i}": a for i, a in enumerate(arrays)}
    result = Simulator(program, engine=engine, numerics=numerics).run(feeds)
    return [result[f"out{i}"] for i in range(len(result))]


blocks = st.builds(
    lambda f, p, t, s, w, c, o: DiffBlock(f, p, t, s, w, c, o and f != "wasserstein"),
    st.sampled_from(FUNCTIONS),
    st.sampled_from(("single", "pair", "average")),
    st.sampled_from((0.0, 1.0, 0.9, -1.0)),
    st.sampled_from((1, -1)),
    st.sampled_from((1.0, 0.5, -2.0)),
    st.sampled_from((0, 1)),
    st.booleans(),
)
every_block = st.one_of(blocks, st.sampled_from(sorted(TABLES)).map(TABLES.__getitem__))
shapes = st.sampled_from([(1,), (7, 1), (2, 1, 3, 3)])


def operands(op, shape, seed, scale=5.0):
    rng = np.random.default_rng(seed)
    arrays = [rng.uniform(-scale, scale, shape).astype(np.float32)]
    if op.scores == 2:
        arrays.append(rng.uniform(-scale, scale, (5, 1) if op.pairing == "average" else shape).astype(np.float32))
    if op.targets:
        arrays.append(rng.random(shape).astype(np.float32))
    return arrays


@settings(max_examples=60, deadline=None)
@given(every_block, shapes, st.integers(0, 99), st.sampled_from([1.0, 20.0, 1e4]))
def test_float_numerics_are_the_ops_own(op, shape, seed, scale):
    arrays = operands(op, shape, seed, scale)
    with np.errstate(over="ignore"):  # exp(4e4) is inf in float32 either way
        expected = op.evaluate(*arrays)
    program, _ = diff_of(op, arrays)
    for found, value in zip(run(program, arrays, "float"), expected, strict=True):
        assert found.shape == value.shape
        np.testing.assert_allclose(found, value, rtol=2e-7, atol=1e-30)


@settings(max_examples=80, deadline=None)
@given(every_block, shapes, st.integers(0, 99), st.sampled_from([16, 64, 256, 1000]))
def test_quantized_numerics_are_within_the_stated_error(op, shape, seed, segments):
    arrays = operands(op, shape, seed, 6.0)
    program, diff = diff_of(op, arrays, segments)
    assert diff.low <= -3.9
    a = arrays[0].astype(np.float64)
    u = a if op.scores == 1 else a - (arrays[1] if op.pairing == "pair" else arrays[1].astype(np.float64).mean())
    # the mean of an average is itself rounded to float32, which f' feels
    lost = 1e-6
    far = (u < diff.low) | (u > diff.high)
    if op.table is not None:
        for corner in op.table.corners:
            far |= np.abs(u - corner) < 1.1 * diff.step
    if op.function == "hinge":
        far |= np.abs(u - (arrays[-1] if op.targets else op.target)) < lost
    ideal = run(program, arrays, "float")
    found = run(program, arrays, "quantized")
    k = op.scale(a.size)
    slopes = np.abs(ideal[1] / k)
    error = np.abs(found[1] - ideal[1])
    allowed = np.abs(k) * (diff.slope_error + lost) * np.maximum(1, slopes)
    assert (error <= allowed)[~far].all()
    if not far.any():
        values = np.abs(replace(op, weight=1.0, count=1).evaluate(*(x.reshape(x.shape) for x in arrays))[0])
        bound = np.abs(k) * (a.size * (diff.value_error + lost * (1 + slopes.max())) + diff.value_error * values)
        assert abs(float(found[0]) - float(ideal[0])) <= bound + 1e-6 * abs(float(ideal[0]))


@settings(max_examples=60, deadline=None)
@given(every_block, shapes, st.integers(0, 99), st.sampled_from([3.0, 100.0]))
def test_quantized_numerics_bit_for_bit_as_written(op, shape, seed, scale):
    """One score at a time, one float32 operation at a time."""
    arrays = operands(op, shape, seed, scale)
    program, diff = diff_of(op, arrays)
    one = np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        a, b = arrays[0].reshape(-1), arrays[1].reshape(-1) if op.scores == 2 else None
        t = arrays[-1].reshape(-1) if op.targets else np.full(a.size, op.target, np.float32)
        table = program.tensors[program.constants[diff.table[0].index].tensor] if diff.table else None
        lo, step = one(diff.lo), one(diff.step)
        values, slopes = [], []
        for i, x in enumerate(a):
            u = x
            if op.pairing == "pair":
                u = x - b[i]
            elif op.pairing == "average":
                u = x - one(np.add.reduce(b.astype(np.float64)) / b.size)
            if table is not None:
                at = min(max(np.floor((u - lo) * (one(1) / step)), one(0)), one(table.shape[1] - 1))
                rest = u - (lo + at * step)
                v, vs, d, ds = table[:, int(at)]
                value, slope = v + vs * rest, d + ds * rest
            match op.function:
                case "cross-entropy":
                    value, slope = value - t[i] * u, slope - t[i]
                case "minimax":
                    value, slope = t[i] * u - value, t[i] - slope
                case "least-squares":
                    value, slope = (u - t[i]) * (u - t[i]), one(2) * (u - t[i])
                case "wasserstein":
                    value, slope = u, one(1)
                case "hinge":
                    reach = one(op.sign) * (u - t[i])
                    value, slope = (reach, one(op.sign)) if reach > 0 else (one(0), one(0))
            values.append(value)
            slopes.append(slope)
        k = op.scale(a.size)
        values, slopes = np.array(values, np.float32), np.array(slopes, np.float32)
        expected = [np.float32(k * np.add.reduce(values.astype(np.float64))), one(k) * slopes]
        if op.pairing == "pair":
            expected.append(-expected[1])
        elif op.pairing == "average":
            total = np.add.reduce(slopes.astype(np.float64))
            expected.append(np.full(b.size, np.float32(-(k * total) / b.size)))
    found = run(program, arrays, "quantized")
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_array_equal(x.reshape(-1), np.asarray(y).reshape(-1))
    for x, y in zip(found, run(program, arrays, "quantized", "fast"), strict=True):
        np.testing.assert_array_equal(x, y)


def test_scores_far_outside_follow_the_asymptotes():
    op = DiffBlock("cross-entropy", target=1.0, count=1)
    scores = np.array([-1e4, -100, 100, 1e4, np.nan], np.float32)
    program, _ = diff_of(op, [scores])
    delta = run(program, [scores], "quantized")[1]
    assert delta[:4].tolist() == [-1, -1, 0, 0]
    loss, _ = run(diff_of(op, [scores[:2]])[0], [scores[:2]], "quantized")
    assert float(loss) == pytest.approx(10100, rel=1e-6)


@pytest.mark.parametrize("segments", [64, 256, 1024, 4096])
def test_the_sigmoid_table_gets_finer_with_its_segments(segments):
    _, diff = diff_of(DiffBlock("cross-entropy"), [np.zeros(4, np.float32)], segments)
    worst = {64: 7e-4, 256: 2e-4, 1024: 2e-5, 4096: 4e-6}[segments]
    assert diff.slope_error <= 1.7 * worst + 1e-5


def test_equal_tables_are_one_constant():
    graph = Graph("two")
    x = graph.add_input("x", tensor_type_of(np.zeros((4, 1), np.float32)))
    walk = Walk(graph, {}, None)  # type: ignore[arg-type]
    walk.buffer_of[x] = 0
    for target in (0.0, 1.0):
        graph.add_multi(DiffBlock("cross-entropy", target=target), x)
    made = [emitted(walk, n, 256) for n in graph.nodes]
    assert made[0].table == made[1].table
    assert len(walk.constants) == 1
    assert (made[0].loss, made[0].deltas) == (-1, (-1,))  # nobody gave them a buffer


def test_text_and_file_read_back(tmp_path):
    arrays = operands(TABLES["distance"], (3, 1), 0)
    program, _ = diff_of(TABLES["distance"], arrays)
    again = assemble(disassemble(program), resolve=lambda name: program.tensors)
    assert again.instructions == program.instructions
    program.save(tmp_path / "p.mgc")
    loaded = Program.load(tmp_path / "p.mgc")
    assert loaded.instructions == program.instructions
    for x, y in zip(run(loaded, arrays, "quantized"), run(program, arrays, "quantized"), strict=True):
        np.testing.assert_array_equal(x, y)


WRONG = [
    ({"function": 9}, "loss function 9 is unknown"),
    ({"pairing": 3}, "pairing 3 is unknown"),
    ({"sign": 0}, "sign is 0"),
    ({"target": math.nan}, "target nan"),
    ({"scale": 1e39}, "is not a finite float32"),
    ({"scores": ()}, "single: 1 scores"),
    ({"deltas": (2, -1)}, "single: 1 scores"),
    ({"function": 4, "table": (), "targets": (Ref(BUFFER, 0),)}, "wasserstein has no target"),
    ({"targets": (Ref(BUFFER, 1),)}, r"scores of shape \[4, 1\] with an operand of shape \[\]"),
    ({"scores": (Ref(CONSTANT, 0),)}, r"buffer 2 for the errors of scores \[4, 256\]"),
    ({"scores": (Ref(BUFFER, 9),)}, "buffer 9 does not exist"),
    ({"loss": -1, "deltas": (-1,)}, "at least one and different ones are expected"),
    ({"loss": 2}, "at least one and different ones are expected"),
    ({"loss": 2, "deltas": (-1,)}, "the loss goes to buffer 2, which holds more than one element"),
    ({"deltas": (1,), "loss": -1}, r"buffer 1 for the errors of scores \[4, 1\] has another shape"),
    ({"table": ()}, "cross-entropy takes 1 even and 0 exact tables"),
    ({"function": 6}, "tabulated takes 1 even and 1 exact tables"),
    ({"step": 0.0}, "a table from"),
    ({"table": (Ref(BUFFER, 0),)}, "a table is a constant"),
    ({"table": (Ref(CONSTANT, 5),)}, "constant 5 does not exist"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_rules(change, message):
    program, _ = diff_of(DiffBlock("cross-entropy"), [np.zeros((4, 1), np.float32)])
    (k,) = [i.id for i in program.instructions if isinstance(i, Diff)]
    instructions = list(program.instructions)
    instructions[k] = replace(instructions[k], **change)
    with pytest.raises(ProgramError, match=message):
        replace(program, instructions=tuple(instructions)).verify()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((3, 8), np.float32), r"a table of shape \[3, 8\]: \[4, n\] is expected"),
        (np.zeros((4, 8), np.float64), "finite float32 is expected"),
        (np.full((4, 8), np.inf, np.float32), "finite float32 is expected"),
    ],
)
def test_tables_are_checked(data, message):
    program, diff = diff_of(DiffBlock("cross-entropy"), [np.zeros((4, 1), np.float32)])
    name = program.constants[diff.table[0].index].tensor
    with pytest.raises(ProgramError, match=message):
        replace(program, tensors={**program.tensors, name: data}).verify()


def test_exact_tables_are_checked():
    arrays = operands(TABLES["tanh"], (3, 1), 0)
    program, diff = diff_of(TABLES["tanh"], arrays)
    name = program.constants[diff.exact[0].index].tensor
    for data, message in ((program.tensors[name][::-1].copy(), "do not ascend"), (np.zeros((3, 4)), r"\[n, 5\]")):
        with pytest.raises(ProgramError, match=message):
            replace(program, tensors={**program.tensors, name: data}).verify()


def test_its_energy_is_the_blocks_and_the_memories():
    from mgc.targets import CostModel, load_target
    from mgc.targets.codegen.account import Account

    cost = CostModel(load_target("liu2018"))
    op = DiffBlock("cross-entropy", "average")
    arrays = operands(op, (7, 1), 0)
    program, _ = diff_of(op, arrays)
    (diff,) = [i for i in program.instructions if isinstance(i, Diff)]
    energy = Account(program, cost).energy(diff)
    assert energy.diff == cost.diff_energy(7, averaged=5).diff
    assert energy.edram == pytest.approx(cost.transfer_energy(4 * (7 + 5 + 1 + 7 + 5), "edram").edram)
