"""Reads that drain: what the rules refuse, what they move, their text and file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mgc
from mgc.compiler import compile_training
from mgc.isa.asm import assemble, disassemble
from mgc.isa.error import ProgramError
from mgc.isa.functions import function_code
from mgc.isa.instructions import BUFFER, CONSTANT, REGISTER, Mvm, MvmT, Ref, Result, Step
from mgc.isa.program import Program
from mgc.isa.traffic import accesses_of

DATA = Path(__file__).parents[1] / "data" / "training"


@pytest.fixture(scope="module")
def layers():
    """A generator whose last layer has four parts."""
    return mgc.compile(DATA / "dcgan_G_ts.onnx", calibrate="none")


@pytest.fixture(scope="module")
def trained():
    options = {"discriminator": DATA / "dcgan_D_ts.onnx", "loss": "bce", "batch": 2}
    program = compile_training(DATA / "dcgan_G_ts.onnx", **options, overrides={"training.copies": "least"})
    return program.part(program.entries[0].name)


def drains(program, cls):
    return [i for i in program.instructions if isinstance(i, cls) and i.stores]


def changed(program, read, **fields):
    return replace(program, instructions=tuple(replace(i, **fields) if i is read else i for i in program.instructions))


def refused(program, words):
    with pytest.raises(ProgramError, match=words):
        program.verify()


def test_what_is_refused_of_a_read(layers):
    (*_, parts) = [[i for i in drains(layers, Mvm) if i.stores == r.stores] for r in drains(layers, Mvm)]
    assert len(parts) == 4
    first = parts[0]
    total = Step(function_code("reduce_sum"), (Ref(REGISTER, 1),), (0.0, 1.0))
    double = Step(function_code("add"), (Ref(REGISTER, 1), Ref(REGISTER, 1)), ())
    refused(changed(layers, first, dst=first.stores[0].dst), "it drains its sums, and has accumulator")
    refused(changed(layers, first, steps=()), "a drain has steps and stores")
    refused(changed(layers, first, stores=()), "a drain has steps and stores")
    refused(changed(layers, first, steps=(first.steps[0], total)), "element by element")
    refused(changed(layers, first, steps=(*first.steps, double)), "drains that differ")
    refused(changed(layers, first, stores=(Result(Ref(REGISTER, 99), first.stores[0].dst),)), "is not set yet")
    refused(changed(layers, first, stores=first.stores * 2), "buffers of their own")
    refused(changed(layers, first, stores=(Result(Ref(REGISTER, 0), first.stores[0].dst),)), "int64")
    fewer = replace(first.windows, count=(first.windows.count[0] - 1, *first.windows.count[1:]))
    refused(changed(layers, first, windows=fewer), "and leave places")


def test_what_is_refused_of_a_transposed_read(trained):
    read = drains(trained, MvmT)[0]
    refused(changed(trained, read, accumulate=True), "it may not accumulate")
    refused(changed(trained, read, dst=read.src), "of kind code, acc is expected")
    held = trained.buffers[read.dst]
    buffers = list(trained.buffers)
    buffers[held.id] = replace(held, shape=(*held.shape[:2], held.shape[2] + held.parts, *held.shape[3:]))
    refused(replace(trained, buffers=tuple(buffers)), "elements for its open lines")


def test_codes_that_drain_must_fit_the_next_crossbars():
    program = mgc.compile(DATA / "mlp_G_ts.onnx", calibrate="none")
    first = next(i for i in drains(program, Mvm) if i.steps[-1].name == "quant")
    second = next(i for i in drains(program, Mvm) if program.root(i.src) == program.root(first.stores[0].dst))
    groups = list(program.groups)
    groups[second.group] = replace(groups[second.group], arithmetic=replace(groups[0].arithmetic, input_bits=4))
    refused(replace(program, groups=tuple(groups)), r"codes of buffer .* are in -128\.\.127, group 1 takes -8\.\.7")


def test_what_is_moved(layers, trained):
    for program, cls in ((layers, Mvm), (trained, Mvm), (trained, MvmT)):
        for i in drains(program, cls):
            made = {a.buffer: a for a in accesses_of(program, i) if a.writes}
            group = program.groups[i.group]
            size = np.prod(program.buffers[i.stores[0].dst].shape)
            share = i.window_total * group.matrices * group.cols if cls is Mvm else size
            assert all(made[s.dst].moved == share for s in i.stores)
            assert set(i.reads()) >= {r.index for s in i.steps for r in s.args if r.space == BUFFER}
            assert not {r.space for s in i.steps for r in s.args} - {BUFFER, CONSTANT, REGISTER}


def test_text_and_file_keep_them(layers, trained, tmp_path):
    for program in (layers, trained):
        program.save(tmp_path / "p.mgc")
        assert Program.load(tmp_path / "p.mgc").instructions == program.instructions
    assert assemble(disassemble(layers), resolve=lambda name: layers.tensors).instructions == layers.instructions
