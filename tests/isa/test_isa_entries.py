"""Entries: parts of a program that run on their own; what is checked of them, and how they come out of a file."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "training"))
from entries import with_entry, with_plan
from gan_programs import gan_program

from mgc.isa.asm import assemble, disassemble
from mgc.isa.error import ProgramError
from mgc.isa.program import Program


@pytest.fixture
def program():
    return gan_program()


def test_a_part_is_a_program(program):
    for entry in program.entries:
        part = program.part(entry.name)
        part.verify()
        assert part.entry.schedule == entry.schedule
        assert part.groups == program.groups
        assert part.buffers == program.buffers
        assert part.states == program.states
        own = [i for i in part.instructions if i.mnemonic != "program"]
        assert len(own) == entry.stop - entry.first
        assert [i.mnemonic for i in own] == [i.mnemonic for i in program.instructions[entry.first : entry.stop]]
        loaded = [part.inputs[i.port].name for i in own if i.mnemonic == "load"]
        assert sorted(loaded) == sorted(p.name for p in part.inputs)


def test_entries_come_back_from_file_and_text(program, tmp_path):
    path = tmp_path / "p.mgc"
    program.save(path)
    loaded = Program.load(path)
    assert loaded.entries == program.entries
    text = disassemble(loaded)
    assert assemble(text).entries == program.entries
    assert text.count("\n.entry ") == len(program.entries)


def test_an_entry_that_is_not_there(program):
    with pytest.raises(ProgramError, match="entry 'nothing' does not exist; there are"):
        program.part("nothing")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "rest"}, "is of kind 'rest'; there are train, test"),
        ({"repeats": 0}, "repeats, micro_batch, micro_batches and split must be at least 1"),
        ({"micro_batches": 0}, "must be at least 1"),
        ({"first": 0}, "has instructions 0.."),
        ({"id": 3}, "entry at place 0 has id 3"),
    ],
)
def test_rules(program, fields, message):
    with pytest.raises(ProgramError, match=message):
        with_entry(program, 0, **fields).verify()


def test_every_instruction_belongs_to_an_entry(program):
    kept = program.entries[:-1]
    with pytest.raises(ProgramError, match="belong to no entry"):
        replace(program, entries=kept).verify()


def test_names_are_told_apart(program):
    with pytest.raises(ProgramError, match="is there twice"):
        with_entry(program, 1, name=program.entries[0].name).verify()


def test_waiting_for_another_entry_is_an_error(program):
    second = program.entries[1]
    instructions = list(program.instructions)
    waits = instructions[second.first]
    instructions[second.first] = replace(waits, after=(*waits.after, second.first - 1))
    with pytest.raises(ProgramError, match="waits for an instruction of another entry"):
        replace(program, instructions=tuple(instructions)).verify()


def test_an_error_inside_an_entry_names_it(program):
    entry = program.entries[0]
    starts = entry.schedule.starts.copy()
    starts[0] = -1
    with pytest.raises(ProgramError, match=f"entry {entry.name}: "):
        with_plan(program, starts=starts).verify()
