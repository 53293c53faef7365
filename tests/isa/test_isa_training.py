"""Training programs as files and text; every rule of what trains and persists, broken one at a time."""

import dataclasses
import random
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
from builder import ProgramBuilder, changed_fields
from entries import with_entry, with_plan
from hypothesis import given, settings
from programs import random_arithmetic
from test_isa_file import differences
from training_programs import EXACT, RandomConvolution, TinyGan

from mgc.isa.asm import assemble, disassemble
from mgc.isa.crossbar import Arithmetic
from mgc.isa.error import ProgramError
from mgc.isa.instructions import Mvm, MvmT, Outer, Update, Vec
from mgc.isa.program import Program
from mgc.isa.state import StatePiece
from mgc.sim import Simulator, replay

OPTIMIZERS = st.sampled_from([None, "sgd", "momentum", "adam", "rmsprop"])


@settings(deadline=None, max_examples=30)
@given(st.randoms(use_true_random=False), OPTIMIZERS)
def test_programs_survive_to_the_byte(tmp_path_factory, rng, optimizer):
    program = RandomConvolution(rng, random_arithmetic(rng), optimizer).program
    folder = tmp_path_factory.mktemp("training")
    program.save(folder / "a.mgc")
    back = Program.load(folder / "a.mgc")
    assert differences(program, back) == []
    assert back.states == program.states
    assert back.groups[0].weight_scale == program.groups[0].weight_scale
    text = disassemble(back)
    again = assemble(text)
    again.save(folder / "b.mgc")
    assert (folder / "a.mgc").read_bytes() == (folder / "b.mgc").read_bytes()
    assert replay(back).makespan == program.entry.schedule.makespan


def test_the_text_names_states():
    text = disassemble(TinyGan().program)
    assert '.state 0 name="g" kind=parameter phase="p" initial="state.g" pieces=[\n' in text
    assert "        {group=0, buffer=-1, extents=[3, 5]" in text
    assert "persistent=true" in text
    assert "weight_scale=" in text
    assert "lo=-inf hi=inf" in text
    assert "mvm_t" in text


GAN = TinyGan().program


def where(cls, nth=0):
    return [i.id for i in GAN.instructions if isinstance(i, cls)][nth]


def changed(cls, nth=0, **fields):
    """The program with fields of its n-th instruction of a class changed."""
    instructions = list(GAN.instructions)
    instructions[where(cls, nth)] = changed_fields(instructions[where(cls, nth)], **fields)
    return replace(GAN, instructions=tuple(instructions))


def state(name, /, **fields):
    states = [replace(s, **fields) if s.name == name else s for s in GAN.states]
    return replace(GAN, states=tuple(states))


def piece(name, /, **fields):
    (found,) = [s for s in GAN.states if s.name == name]
    return state(name, pieces=(replace(found.pieces[0], **fields),))


def buffer(index, **fields):
    buffers = [replace(b, **fields) if b.id == index else b for b in GAN.buffers]
    return replace(GAN, buffers=tuple(buffers))


def home(name):
    return next(s for s in GAN.states if s.name == name).pieces[0].buffer


def tensor(name, array):
    return replace(GAN, tensors={**GAN.tensors, name: array})


def without(name):
    states = [s for s in GAN.states if s.name != name]
    return replace(GAN, states=tuple(replace(s, id=k) for k, s in enumerate(states)))


ADAM, MOMENTUM, SGD = (GAN.instructions[where(Update, n)] for n in range(3))
MVM_T, OUTER = GAN.instructions[where(MvmT)], GAN.instructions[where(Outer)]
assert isinstance(ADAM, Update)
assert isinstance(MVM_T, MvmT)
assert isinstance(OUTER, Outer)
PLAIN = next(b.id for b in GAN.buffers if b.kind == "real" and not b.persistent and b.shape == (5,))
READER = next(i.id for i in GAN.instructions[ADAM.id + 1 :] if isinstance(i, Mvm) and i.group == 1)


def group(index, **fields):
    groups = [replace(g, **fields) if g.id == index else g for g in GAN.groups]
    return replace(GAN, groups=tuple(groups))


BROKEN = {
    "weight-scale": (group(0, weight_scale=float("nan")), "weight scale nan is not finite"),
    "weight-scale-negative": (group(0, weight_scale=-1.0), "weight scale -1.0"),
    "persistent-kind": (buffer(home("b"), kind="acc", dtype="int64"), "kind real and one slot are expected"),
    "persistent-slots": (buffer(home("b"), slots=2), "with 2 slots"),
    "persistent-not": (buffer(home("b"), persistent=False), "is not persistent"),
    "persistent-nobody's": (without("b"), r"persistent buffer b\d+: 5 of its 5 elements belong to no state"),
    "group-nobody's": (without("d"), "group g1, which UPDATE writes: 5 of its 5 elements belong to no state"),
    "group-half": (piece("d", extents=(4, 1)), "1 of its 5 elements belong to no state"),
    "state-twice": (state("b", name="g"), "state g is there twice"),
    "state-ids": (replace(GAN, states=GAN.states[::-1]), "state at place 0 has id"),
    "state-kind": (state("b", kind="memory"), "of kind 'memory'; there are parameter"),
    "state-initial": (state("b", initial="nowhere"), "tensor nowhere is missing"),
    "state-dtype": (tensor("state.b", np.zeros(5)), "float64, its home holds float32"),
    "state-size": (tensor("state.b", np.zeros(4, np.float32)), r"state: addresses 0\.\.4"),
    "state-other": (tensor("state.g", np.zeros((3, 5), np.float32)), "not in the real weights of group 0"),
    "piece-home": (piece("b", group=0), "one of them is expected"),
    "piece-none": (piece("b", buffer=-1), "one of them is expected"),
    "piece-group": (piece("g", group=9), "group 9 does not exist"),
    "piece-buffer": (piece("b", buffer=999), "buffer 999 does not exist"),
    "piece-home-low": (piece("b", home_base=-1), "home: addresses -1"),
    "piece-home-high": (piece("b", home_strides=(2,)), r"home: addresses 0\.\.8"),
    "piece-low": (piece("b", base=-1), "state: addresses -1"),
    "piece-rank": (piece("b", strides=(1, 1)), "1 extents but 2 strides"),
    "piece-twice": (piece("b", home_strides=(0,)), "home: strides .* meet an address twice"),
    "piece-state-twice": (piece("b", strides=(0,)), "state: strides .* meet an address twice"),
    "piece-shared": (state("b", pieces=next(s for s in GAN.states if s.name == "b").pieces * 2), "holds other entries"),
    "mvm_t-group": (changed(MvmT, group=9), "group 9 does not exist"),
    "mvm_t-src": (changed(MvmT, src=0), "of kind real, code is expected"),
    "mvm_t-dst": (changed(MvmT, dst=MVM_T.src), "of kind code, acc is expected"),
    "mvm_t-signed": (changed(MvmT, signed=False), "signed is False"),
    "mvm_t-bounds": (changed(MvmT, dst_strides=(6, 1)), "dst: addresses"),
    "mvm_t-src-bounds": (changed(MvmT, src_strides=(2, 1)), "src: addresses"),
    "mvm_t-distinct": (changed(MvmT, dst_strides=(1, 1)), "dst: strides .* meet an address twice"),
    "mvm_t-channels": (changed(MvmT, dst_shape=(4, 4)), "do not read 4 channels"),
    "mvm_t-cols": (changed(MvmT, group=0), "5 columns but 1 channels"),
    "mvm_t-batch": (changed(MvmT, dst_shape=(3, 5)), "dst has batch 3, src 4"),
    "mvm_t-lengths": (changed(MvmT, taps=(1,)), "taps has 1 entries, count has 0"),
    "mvm_t-begins": (changed(MvmT, accumulate=True), "adds to buffer .* the first of instructions"),
    "outer-x": (changed(Outer, x=0), "of kind real, code is expected"),
    "outer-dy": (changed(Outer, dy=0), "of kind real, code is expected"),
    "outer-dst": (changed(Outer, dst=MVM_T.dst), r"\[4, 5\], \[matrices, rows, cols\] is expected"),
    "outer-bounds": (changed(Outer, x_strides=(5, 2)), "x: addresses"),
    "outer-rows": (changed(Outer, x_shape=(4, 4)), "do not read 4 channels"),
    "outer-cols": (changed(Outer, dy_shape=(4, 2), dy_strides=(0, 1)), "1 x 1 columns but 2 channels"),
    "update-optimizer": (changed(Update, optimizer=7), "optimizer 7 is unknown"),
    "update-hyper": (changed(Update, hyper=(0.1,)), "adam takes"),
    "update-target": (changed(Update, parameter=home("b")), "one of them is expected"),
    "update-none": (changed(Update, group=-1), "one of them is expected"),
    "update-group": (changed(Update, group=9), "group 9 does not exist"),
    "update-scale": (group(1, weight_scale=0.0), "group 1 has weight scale 0.0: it is not for training"),
    "update-moments": (changed(Update, moments=ADAM.moments[:1]), "adam keeps 2 moments, 1 buffers"),
    "update-same-moments": (changed(Update, moments=ADAM.moments[:1] * 2), "must be different buffers"),
    "update-shape": (changed(Update, nth=2, parameter=ADAM.moments[0]), r"float32\[5\], real float32\[1, 5, 1\]"),
    "update-gradient": (changed(Update, gradient=PLAIN), r"real float32\[1, 5, 1\] is expected"),
    "update-plain": (changed(Update, nth=2, parameter=PLAIN), "is not persistent"),
    "update-no-step": (changed(Update, step=-1), "adam needs step buffer"),
    "update-step": (changed(Update, nth=1, step=ADAM.step), "momentum takes no step buffer"),
    "update-step-type": (changed(Update, step=PLAIN), "one int64 is expected"),
    "update-clip": (changed(Update, lo=1.0, hi=0.0), "clipped to 1.0..0.0"),
    "update-nan-clip": (changed(Update, lo=float("nan")), "clipped to nan"),
    "race": (changed(Mvm, nth=[i.id for i in GAN.instructions if isinstance(i, Mvm)].index(READER),
                     after=tuple(k for k in GAN.instructions[READER].after if k != ADAM.id)),
             r"\(update\) and \d+ \(mvm\) both use group g1 and at least one changes it"),
    "race-buffer": (changed(Update, after=tuple(k for k in ADAM.after if not isinstance(GAN.instructions[k], Vec) or
                                                home("steps") not in GAN.instructions[k].writes())),
                    r"\(vec\) and \d+ \(update\) both use buffer b\d+"),
    "batched": (with_entry(GAN, batched=True), "changes what persists: the program cannot be batched"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_rule(name):
    program, message = BROKEN[name]
    with pytest.raises(ProgramError, match=message):
        program.verify()


def test_a_group_must_be_programmed_first():
    b = ProgramBuilder(micro_batches=1, batched=False)
    group = b.group(np.ones((1, 2, 2), np.int16), np.ones((1, 2, 2), np.float32), EXACT, weight_scale=1.0)
    b.drafts.pop()
    b.state("w", "parameter", np.ones((2, 2), np.float32), group)
    b.update("sgd", (0.1,), b.input((1, 2, 2), batched=False), group=group)
    with pytest.raises(ProgramError, match="no PROGRAM before it writes group 0"):
        b.build()


def two_parts(**fields):
    """Two MVM_Ts that add into one buffer."""
    b = ProgramBuilder(micro_batches=1, batched=False)
    x = b.input((1, 2), dtype="int8", batched=False)
    b.buffers[0] = replace(b.buffers[0], kind="code")
    acc = b.buffer("acc", "int64", (1, 3))
    dense = dict.fromkeys(("count", "taps", "in_base", "in_stride", "in_dilation", "out_base", "out_stride"), ())
    for k in range(2):
        weights = np.ones((1, 3, 2), np.int16)
        group = b.group(weights, weights, fields.get("arithmetic", (EXACT, EXACT))[k],
                        weight_scale=fields.get("scales", (0.5, 0.5))[k])  # fmt: skip
        b.mvm_t(group, x, acc, True, accumulate=fields.get("accumulate", (False, True))[k], **dense)
    k = b.kernel()
    one = b.constant(np.float32(1))
    y = k.store(k.step("dequant_by", acc, one, one, attributes=(1.0,)))
    k.emit()
    b.output(y, batched=False)
    return b


def test_parts_have_one_scale_and_one_beginning():
    program = two_parts().build()
    y = Simulator(program, engine="reference").run({"in0": np.array([[3, 4]], np.int8)})["out0"]
    assert y.tolist() == [[14, 14, 14]]
    with pytest.raises(ProgramError, match="different weight scales or factors"):
        two_parts(scales=(0.5, 0.25)).build()
    scale = replace(EXACT, adc_mode="scale")
    with pytest.raises(ProgramError, match="different weight scales or factors"):
        two_parts(arithmetic=(EXACT, scale)).build()
    with pytest.raises(ProgramError, match=r"begins buffer b1: the first of instructions \[3, 4\] begins it"):
        two_parts(accumulate=(False, False)).build()
    last = [i.id for i in program.instructions if isinstance(i, MvmT)][1]
    instructions = list(program.instructions)
    instructions[last] = replace(instructions[last], after=(0,))
    with pytest.raises(ProgramError, match="adds to buffer b1 without waiting for instruction 3"):
        replace(program, instructions=tuple(instructions)).verify()


def test_sums_of_64_bits_are_refused(monkeypatch):
    monkeypatch.setattr(Arithmetic, "largest_transposed_sum", lambda self, cols: 1 << 62)
    with pytest.raises(ProgramError, match=r"\(mvm_t\) can exceed 63-bit sums in buffer"):
        two_parts().build()
    monkeypatch.setattr(Arithmetic, "largest_transposed_sum", lambda self, cols: 1 << 63)
    with pytest.raises(ProgramError, match="2 columns with this arithmetic and these windows can exceed 63-bit sums"):
        two_parts().build()


def test_windows_on_the_same_positions():
    drawn = (RandomConvolution(random.Random(seed), EXACT, None) for seed in range(99))
    c = next(c for c in drawn if any(q > 1 for q in c.count))
    index = next(i.id for i in c.program.instructions if isinstance(i, MvmT))
    instructions = list(c.program.instructions)
    instructions[index] = changed_fields(instructions[index], in_stride=(0,) * len(c.count))
    with pytest.raises(ProgramError, match="in_stride is 0"):
        replace(c.program, instructions=tuple(instructions)).verify()


def test_codes_must_fit_the_transposed_read():
    narrow = replace(EXACT, input_bits=7)
    groups = tuple(replace(g, arithmetic=narrow) if g.id == 1 else g for g in GAN.groups)
    with pytest.raises(ProgramError, match=r"\(mvm(_t)?\): codes of buffer b\d+ are in -128\.\.127"):
        replace(GAN, groups=groups).verify()


def test_iterations_that_overlap_wait_for_each_other():
    """With several micro-batches in one run, the next may not read what the one before still changes."""
    plan = GAN.entry.schedule
    two = np.repeat(plan.starts, 2, axis=1)
    two[:, 1] += plan.makespan
    open_program = with_entry(with_plan(GAN, starts=two, makespan=2 * plan.makespan), micro_batches=2)
    with pytest.raises(ProgramError, match=r"must wait for instruction \d+ \(\w+\) of the micro-batch before"):
        open_program.verify()
    everything = tuple((i.id, 1) for i in GAN.instructions)
    closed = [replace(i, after_previous=everything) for i in GAN.instructions]
    replace(open_program, instructions=tuple(closed)).verify()


def test_a_state_needs_every_field(tmp_path):
    from test_isa_file import resealed

    GAN.save(tmp_path / "a.mgc")
    for change, message in (
        (lambda m: m["states"][0].pop(), "StoredState has 5 fields, not 4"),
        (lambda m: m["states"][0][4][0].pop(), "StatePiece has 7 fields, not 6"),
        (lambda m: m["states"][0][4][0].__setitem__(0, "g"), "type int is expected"),
        (lambda m: m["groups"][0].__setitem__(-2, "1"), "type float is expected"),
        (lambda m: m["buffers"][0].__setitem__(-2, 1), "type bool is expected"),
        (lambda m: m.pop("states"), "states"),
    ):
        GAN.save(tmp_path / "a.mgc")
        resealed(tmp_path / "a.mgc", change)
        with pytest.raises(ProgramError, match=message):
            Program.load(tmp_path / "a.mgc")


def test_random_damage_is_caught_or_harmless():
    """A field of an instruction changed at random: ProgramError and nothing else, or the program still runs."""
    rng = random.Random(0)
    caught = 0
    for seed in range(60):
        c = RandomConvolution(random.Random(seed), EXACT, rng.choice(["sgd", "adam", "rmsprop"]))
        index = rng.choice([i.id for i in c.program.instructions if isinstance(i, MvmT | Outer | Update)])
        old = c.program.instructions[index]
        name = rng.choice([f.name for f in dataclasses.fields(old) if f.name != "id"])
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
        instructions = list(c.program.instructions)
        instructions[index] = replace(old, **{name: new})
        damaged = replace(c.program, instructions=tuple(instructions))
        try:
            damaged.verify()
        except ProgramError:
            caught += 1
            continue
        Simulator(damaged, engine="reference").run(c.inputs())
    assert caught > 20


def test_dense_pieces():
    assert StatePiece.dense((2, 3), group=1) == StatePiece(1, -1, (2, 3), 0, (3, 1), 0, (3, 1))
    assert StatePiece.dense((), buffer=2) == StatePiece(-1, 2, (), 0, (), 0, ())
