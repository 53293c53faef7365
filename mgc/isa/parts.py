"""One entry of a program as a program of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from mgc.isa.entry import Entry
from mgc.isa.error import ProgramError
from mgc.isa.instruction import Instruction
from mgc.isa.instructions import BUFFER, Load, Store, WriteCells
from mgc.isa.memory import Port
from mgc.isa.tables import Tables

_T = TypeVar("_T", bound=Tables)


def part_of(program: _T, entry: Entry) -> _T:
    """The program that an entry is with the PROGRAMs: its own instructions and ports, everything else in common.

    Groups, buffers, states and units keep their numbers, so what one entry leaves another one can take over. That of
    the only entry is the program.
    """
    if len(program.entries) == 1:
        return program
    setup = [i for i in program.instructions[: entry.first] if isinstance(i, WriteCells)]
    own = program.instructions[entry.first : entry.stop]
    number = {i.id: k for k, i in enumerate((*setup, *own))}
    ports_in: dict[int, int] = {}
    ports_out: dict[int, int] = {}
    inputs: list[Port] = []
    outputs: list[Port] = []
    instructions: list[Instruction] = []
    for i in (*setup, *own):
        if any(j not in number for j in (*i.after, *i.after_all, *(j for j, _ in i.after_previous))):
            raise ProgramError(f"entry {entry.name}: instruction {i.id} waits for an instruction of another entry")
        after = tuple(number[j] for j in i.after)
        previous = tuple((number[j], lag) for j, lag in i.after_previous)
        every = tuple(number[j] for j in i.after_all)
        moved = replace(i, id=number[i.id], after=after, after_previous=previous, after_all=every)
        if isinstance(moved, Load):
            port = _port(program.inputs, moved.port, f"entry {entry.name}: input")
            if moved.port not in ports_in:
                ports_in[moved.port] = len(inputs)
                inputs.append(_placed(program, entry, port, moved.dst))
            moved = replace(moved, port=ports_in[moved.port])
        elif isinstance(moved, Store):
            port = _port(program.outputs, moved.port, f"entry {entry.name}: output")
            if moved.port not in ports_out:
                ports_out[moved.port] = len(outputs)
                outputs.append(_placed(program, entry, port, moved.src.index if moved.src.space == BUFFER else -1))
            moved = replace(moved, port=ports_out[moved.port])
        instructions.append(moved)
    alone = replace(entry, id=0, first=len(setup), stop=len(instructions))
    return replace(
        program,
        name=f"{program.name}.{entry.name}",
        instructions=tuple(instructions),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        entries=(alone,),
        claims=tuple(replace(c, entry=0) for c in program.claims if c.entry == entry.id),
    )


def _placed(program: Tables, entry: Entry, port: Port, buffer: int) -> Port:
    """A port as an entry has it: in its own buffer, of that shape."""
    if not 0 <= buffer < len(program.buffers):
        return replace(port, buffer=buffer, batched=False)
    return replace(port, buffer=buffer, shape=program.buffers[buffer].shape, batched=entry.batched)


def _port(ports: tuple[Port, ...], index: int, what: str) -> Port:
    if not 0 <= index < len(ports):
        raise ProgramError(f"{what} {index} does not exist; there are {len(ports)}")
    return ports[index]
