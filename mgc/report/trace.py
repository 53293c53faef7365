"""What an instruction does, in words, and which ONNX nodes it came from: shared by all views."""

from __future__ import annotations

from mgc.isa.instruction import Instruction
from mgc.isa.instructions import Outer
from mgc.isa.program import Program


def onnx_nodes(program: Program, instruction: Instruction) -> tuple[str, ...]:
    """The ONNX nodes that an instruction computes."""
    return program.sources[instruction.source] if instruction.source >= 0 else ()


def label(program: Program, instruction: Instruction) -> str:
    """Mnemonic and subject: "mvm conv1"; a gradient's subject is the weights that it is for."""
    about = _learner(program, instruction) if isinstance(instruction, Outer) else instruction
    return f"{instruction.mnemonic} {about.subject(program)}"


def _learner(program: Program, outer: Outer) -> Instruction:
    """The first step of an optimizer that the result of an OUTER leads to; itself if there is none."""
    reached = {program.root(outer.dst)}
    for i in program.instructions[outer.id + 1 :]:
        if not reached.isdisjoint(program.root(b) for b in i.reads()):
            if i.learns:
                return i
            reached.update(program.root(b) for b in i.writes())
    return outer
