"""Every rule of the verifier, broken one at a time."""

import dataclasses
import random
from dataclasses import replace

import numpy as np
import pytest
from builder import ProgramBuilder, changed_fields, quant_attributes
from entries import with_entry, with_plan
from programs import random_program

from mgc.isa.crossbar import Arithmetic
from mgc.isa.error import ProgramError
from mgc.isa.instructions import BUFFER, CONSTANT, REGISTER, Load, Move, Mvm, Ref, Result, Step, Store, Vec, WriteCells
from mgc.isa.program import Program

ARITHMETIC = Arithmetic(4, 8, 2, 1, 8, "clip", "differential", 8, 8)


def convolution() -> Program:
    """load -> quant -> move -> two interleaved MVMs -> dequant -> store, with an alias and a host-free output."""
    b = ProgramBuilder(micro_batches=2)
    x = b.input((1, 2, 6))
    k = b.kernel()
    code = k.store(k.step("quant", k.step("relu", x), attributes=quant_attributes(0.1, ARITHMETIC, False)), "code")
    k.emit()
    code = b.transpose(code, (0, 1, 2))
    acc = b.buffer("acc", "int64", (1, 3, 8))
    weights = np.ones((1, 4, 3), np.int8)
    for part in range(2):
        group = b.group(weights, weights.astype(np.float32), ARITHMETIC)
        b.mvm(group, code, acc, False, count=[4], taps=[2], in_base=[0], in_stride=[1], in_dilation=[1],
              out_base=[part], out_stride=[2])  # fmt: skip
    k = b.kernel()
    scale = b.constant(np.float64(0.5))
    y = k.store(k.step("dequant", acc, scale, scale, b.constant(np.float32(0))))
    k.emit()
    b.output(b.alias(y, (1, 24)))
    return b.build()


PROGRAM = convolution()


def where(program, cls, nth=0):
    return [i.id for i in program.instructions if isinstance(i, cls)][nth]


def changed(program, cls, nth=0, **fields):
    """The program with fields of its n-th instruction of a class changed."""
    index = where(program, cls, nth)
    instructions = list(program.instructions)
    instructions[index] = changed_fields(instructions[index], **fields)
    return replace(program, instructions=tuple(instructions))


def table(name, index, **fields):
    entries = list(getattr(PROGRAM, name))
    entries[index] = replace(entries[index], **fields)
    return replace(PROGRAM, **{name: tuple(entries)})


def tensor(name, array):
    return replace(PROGRAM, tensors={**PROGRAM.tensors, name: array})


def buffer_of(kind, nth=0):
    return [b.id for b in PROGRAM.buffers if b.kind == kind][nth]


def arithmetic(**fields):
    return table("groups", 0, arithmetic=replace(ARITHMETIC, **fields))


SETUP = next(i for i in PROGRAM.instructions if isinstance(i, WriteCells))


def starts(change):
    array = PROGRAM.entry.schedule.starts.copy()
    change(array)
    return with_plan(PROGRAM, starts=array)


MVM = PROGRAM.instructions[where(PROGRAM, Mvm)]
MOVE = PROGRAM.instructions[where(PROGRAM, Move)]
QUANT = PROGRAM.instructions[where(PROGRAM, Vec)]
assert isinstance(MVM, Mvm)
assert isinstance(MOVE, Move)
assert isinstance(QUANT, Vec)


def piece(**fields):
    return changed(PROGRAM, Move, pieces=(replace(MOVE.pieces[0], **fields),))


BROKEN = {
    "micro_batch": (with_entry(PROGRAM, micro_batch=0), "must be at least 1"),
    "ids": (replace(PROGRAM, buffers=PROGRAM.buffers[::-1]), "ids count from 0"),
    "tensor-type": (tensor("x", np.array(["a"])), "element type <U1"),
    "constant-tensor": (table("constants", 0, tensor="nowhere"), "tensor nowhere is missing"),
    "buffer-kind": (table("buffers", 0, kind="reel"), "kind 'reel'; there are real"),
    "buffer-dtype": (table("buffers", 0, dtype="float31"), "element type 'float31' is unknown"),
    "buffer-code-dtype": (table("buffers", buffer_of("code"), dtype="int32"), "kind code holds uint8"),
    "buffer-acc-dtype": (table("buffers", buffer_of("acc"), dtype="int32"), "kind acc holds int64"),
    "buffer-shape": (table("buffers", 0, shape=(1 << 40,)), "above"),
    "buffer-place": (table("buffers", 0, slots=0), "is no place"),
    "buffer-space": (table("buffers", 0, space="tape"), "is no place"),
    "alias-later": (table("buffers", 0, alias_of=3), "an earlier buffer is expected"),
    "alias-self": (table("buffers", 0, alias_of=0), "an earlier buffer is expected"),
    "alias-size": (table("buffers", len(PROGRAM.buffers) - 1, shape=(1, 25)), "kind, dtype or size differ"),
    "group-arithmetic": (arithmetic(adc_bits=17), "adc_bits is 17"),
    "group-mode": (arithmetic(adc_mode="clop"), "adc_mode is 'clop'"),
    "group-encoding": (arithmetic(encoding="x"), "encoding is 'x'"),
    "group-weight-bits": (arithmetic(weight_bits=1), "weight_bits is 1"),
    "group-crossbars": (arithmetic(cols=4), "crossbars, 1 x"),
    "group-missing-weights": (table("groups", 0, weights="nowhere"), "nowhere are missing"),
    "group-shape": (tensor("group.0.weights", np.ones((1, 4, 2), np.int8)), r"of shape \[1, 4, 2\]"),
    "group-weights-type": (tensor("group.0.weights", np.ones((1, 4, 3), np.float32)), "int8 or int16"),
    "group-real-type": (tensor("group.0.real", np.ones((1, 4, 3), np.int32)), "float is expected"),
    "group-range": (tensor("group.0.weights", np.full((1, 4, 3), -128, np.int8)), r"-128\.\.-128, its cells hold -127"),
    "group-twice": (table("groups", 1, crossbars=PROGRAM.groups[0].crossbars), "used twice"),
    "unit-kind": (table("units", 0, kind="scribe"), "kind 'scribe'"),
    "port-twice": (replace(PROGRAM, inputs=PROGRAM.inputs * 2), "is there twice"),
    "port-buffer": (table("inputs", 0, buffer=99), "buffer 99 does not exist"),
    "port-shape": (table("inputs", 0, shape=(1, 3, 6)), r"has shape \[1, 3, 6\], its buffer \[1, 2, 6\]"),
    "port-dtype": (table("outputs", 0, dtype="complex64"), "'complex64' is unknown"),
    "port-samples": (with_entry(PROGRAM, micro_batch=2), "does not hold 2 samples"),
    "unit": (changed(PROGRAM, Vec, unit=99), "unit 99 does not exist"),
    "duration": (changed(PROGRAM, Vec, duration=-1), "duration -1"),
    "source": (changed(PROGRAM, Vec, source=999), "source 999"),
    "after-later": (changed(PROGRAM, Vec, after=(0, 99)), "may come after instructions"),
    "after-previous": (changed(PROGRAM, Vec, after_previous=((0, 0),)), "is no earlier task"),
    "buffer-id": (changed(PROGRAM, Vec, stores=(Result(Ref(REGISTER, 1), 77),)), "buffer 77 does not exist"),
    "program-group": (changed(PROGRAM, WriteCells, group=5), "group 5 does not exist"),
    "program-missing": (changed(PROGRAM, WriteCells, group=1), "no PROGRAM before it writes group 0"),
    "load-port": (changed(PROGRAM, Load, port=3), "input 3 does not exist"),
    "load-buffer": (changed(PROGRAM, Load, dst=1), "is in buffer 0, not 1"),
    "store-port": (changed(PROGRAM, Store, port=1), "output 1 does not exist|stored 0 times"),
    "store-buffer": (changed(PROGRAM, Store, src=Ref(BUFFER, 0)), "not 0"),
    "store-shape": (changed(PROGRAM, Store, src=Ref(CONSTANT, 0)), r"has shape \[1, 24\], the value is float64\[\]"),
    "store-register": (changed(PROGRAM, Store, src=Ref(REGISTER, 0)), "operand space 2"),
    "step-function": (changed(PROGRAM, Vec, steps=(Step(999, (), ()),)), "step 0: vector function code 999"),
    "step-register": (
        changed(PROGRAM, Vec, steps=(Step(1, (Ref(REGISTER, 0),), (0, 0)),)), "register 0 is not set yet"),
    "step-space": (changed(PROGRAM, Vec, steps=(Step(1, (Ref(7, 0),), (0, 0)),)), "operand space 7"),
    "step-negative": (changed(PROGRAM, Vec, steps=(Step(1, (Ref(CONSTANT, -1),), (0, 0)),)), "constant -1"),
    "store-type": (changed(PROGRAM, Vec, stores=(Result(Ref(REGISTER, 0), 1),)), "a value float32"),
    "move-type": (piece(src=Ref(CONSTANT, 0)), "element types differ"),
    "move-kind": (table("buffers", MOVE.dst, kind="real"), "code, code is expected|of kind real"),
    "move-rank": (piece(src_strides=(1,)), "3 extents but 1 strides"),
    "move-extents": (piece(extents=(1, 2, -6)), "not all >= 0"),
    "move-src-high": (piece(src_base=1), r"src: addresses 1\.\.12 leave the 12 elements"),
    "move-src-low": (piece(src_strides=(0, -1, 1)), r"src: addresses -1"),
    "move-dst": (piece(dst_base=-1), r"dst: addresses -1\.\.10"),
    "move-dst-twice": (piece(dst_strides=(0, 1, 1)), "meet an address twice"),
    "move-huge": (piece(src_strides=(1 << 62, 1 << 62, 1 << 62)), "leave the 12 elements"),
    "mvm-group": (changed(PROGRAM, Mvm, group=9), "group 9 does not exist"),
    "mvm-src-kind": (changed(PROGRAM, Mvm, src=0), "of kind real, code is expected"),
    "mvm-dst-kind": (changed(PROGRAM, Mvm, dst=1), "of kind code, acc is expected"),
    "mvm-signed": (changed(PROGRAM, Mvm, signed=True), "signed is True but the source is uint8"),
    "mvm-lengths": (changed(PROGRAM, Mvm, taps=(2, 1)), "taps has 2 entries, count has 1"),
    "mvm-dims": (changed(PROGRAM, Mvm, src_shape=(1, 2, 6, 1), src_strides=(12, 6, 1, 1)), "spatial dimensions"),
    "mvm-count": (changed(PROGRAM, Mvm, count=(0,)), "at least 1"),
    "mvm-base": (changed(PROGRAM, Mvm, in_base=(1 << 40,)), "within 2"),
    "mvm-src-bounds": (changed(PROGRAM, Mvm, src_strides=(12, 7, 1)), "src: addresses"),
    "mvm-dst-bounds": (changed(PROGRAM, Mvm, dst_shape=(1, 3, 9)), "dst: addresses"),
    "mvm-dst-twice": (changed(PROGRAM, Mvm, dst_strides=(24, 0, 1)), "meet an address twice"),
    "mvm-batch": (changed(PROGRAM, Mvm, src_shape=(2, 2, 3), src_strides=(6, 3, 1)), "src has batch 2, dst 1"),
    "mvm-rows": (changed(PROGRAM, Mvm, taps=(3,)), "do not read"),
    "mvm-channels": (changed(PROGRAM, Mvm, src_shape=(1, 1, 6)), "do not read 1 channels"),
    "mvm-cols": (changed(PROGRAM, Mvm, dst_shape=(1, 2, 8)), "1 x 3 columns but 2 channels"),
    "mvm-out": (changed(PROGRAM, Mvm, out_base=(2,)), "windows write"),
    "mvm-out-low": (changed(PROGRAM, Mvm, out_base=(-1,)), "windows write"),
    "mvm-overlap": (changed(PROGRAM, Mvm, nth=1, out_base=(0,)), "writes where an earlier one wrote"),
    "writers": (changed(PROGRAM, Vec, nth=1, stores=(Result(Ref(REGISTER, 0), 4),) * 2), "one is expected"),
    "no-wait": (changed(PROGRAM, Mvm, after=()), "without waiting for instruction"),
    "nothing-written": (changed(PROGRAM, Mvm, src=1, after=()), "without waiting"),
    "output-twice": (
        replace(with_entry(PROGRAM, stop=PROGRAM.entry.stop + 1), instructions=(*PROGRAM.instructions,
                replace(PROGRAM.instructions[-1], id=len(PROGRAM.instructions)))),
        "stored 2 times",
    ),
    "code-range": (
        changed(PROGRAM, Vec, steps=(*QUANT.steps[:1], replace(QUANT.steps[1], attributes=(0.1, 0, 255, 2, 0)))),
        None,
    ),
    "code-to-real": (
        replace(table("buffers", 1, kind="real")), "copies from kind real to kind code|stores codes"),
    "starts-shape": (starts(lambda s: s.resize((1, 2), refcheck=False)), "starts are"),
    "starts-negative": (starts(lambda s: s.__setitem__((0, 0), -1)), "-1 is for what is no task"),
    "program-late": (
        replace(PROGRAM, instructions=(*PROGRAM.instructions[:-1], replace(SETUP, id=PROGRAM.instructions[-1].id))),
        "the PROGRAMs of a program come first",
    ),
    "clock": (replace(PROGRAM, clock_ns=0.0), "clock"),
    "makespan": (with_plan(PROGRAM, makespan=7), "the last task ends at"),
    "bound": (with_plan(PROGRAM, lower_bound=10**6), "lower bound"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_rule(name):
    program, message = BROKEN[name]
    if message is None:
        program.verify()
        return
    with pytest.raises(ProgramError, match=message):
        program.verify()


def test_codes_must_fit_their_crossbars():
    narrow = replace(ARITHMETIC, input_bits=6)
    groups = tuple(replace(g, arithmetic=narrow) for g in PROGRAM.groups)
    with pytest.raises(ProgramError, match=r"codes of buffer b2 are in 0\.\.255, group 0 takes 0\.\.63"):
        replace(PROGRAM, groups=groups).verify()
    steps = (QUANT.steps[0], replace(QUANT.steps[1], attributes=(0.1, 0, 63, 2, 0)))
    changed(replace(PROGRAM, groups=groups), Vec, steps=steps).verify()


def test_sums_of_64_bits_are_refused(monkeypatch):
    monkeypatch.setattr(Arithmetic, "largest_sum", lambda self, rows: 1 << 63)
    with pytest.raises(ProgramError, match="4 rows with this arithmetic can exceed 63-bit sums"):
        PROGRAM.verify()


def test_nothing_is_read_that_nothing_writes():
    b = ProgramBuilder()
    x = b.input((1, 2))
    b.output(x)
    program = b.build()
    store = replace(program.instructions[1], src=Ref(BUFFER, 1), after=())
    ghost = replace(
        program,
        buffers=(*program.buffers, replace(program.buffers[0], id=1)),
        instructions=(program.instructions[0], store),
        outputs=(replace(program.outputs[0], buffer=1),),
    )
    with pytest.raises(ProgramError, match="which nothing writes"):
        ghost.verify()


def test_a_kernel_does_not_read_what_it_writes():
    b = ProgramBuilder()
    x = b.input((1, 2))
    k = b.kernel()
    k.store(k.step("relu", x))
    k.emit()
    b.output(x)
    program = b.build()
    vec = next(i for i in program.instructions if isinstance(i, Vec))
    with pytest.raises(ProgramError, match=r"reads and writes buffer|one is expected"):
        changed(program, Vec, stores=(replace(vec.stores[0], dst=0),)).verify()


def test_random_damage_is_caught_or_harmless():
    """A field changed at random: the verifier raises ProgramError and nothing else, or the program still runs."""
    from mgc.sim.simulator import Simulator

    rng = random.Random(0)
    caught = 0
    for seed in range(60):
        program = random_program(random.Random(seed))
        index = rng.randrange(len(program.instructions))
        old = program.instructions[index]
        names = [f.name for f in dataclasses.fields(old) if f.name not in ("steps", "stores", "pieces", "id")]
        name = rng.choice(names)
        value = getattr(old, name)
        if isinstance(value, bool):
            new = not value
        elif isinstance(value, int):
            new = value + rng.choice([-3, -1, 1, 2, 1 << 40])
        elif isinstance(value, tuple) and value and isinstance(value[0], int):
            at = rng.randrange(len(value))
            new = (*value[:at], value[at] + rng.choice([-2, -1, 1, 3, 1 << 40]), *value[at + 1 :])
        else:
            continue
        instructions = list(program.instructions)
        instructions[index] = replace(old, **{name: new})
        damaged = replace(program, instructions=tuple(instructions))
        try:
            damaged.verify()
        except ProgramError:
            caught += 1
            continue
        inputs = {
            p.name: np.ones((2 * (p.shape[0] // program.entry.micro_batch), *p.shape[1:]), "f4") for p in program.inputs
        }
        Simulator(damaged, engine="reference").run(inputs)
    assert caught > 20
