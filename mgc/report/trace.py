"""What an instruction does, in words, and which ONNX nodes it came from: shared by all views."""

from __future__ import annotations

from mgc.isa.functions import function
from mgc.isa.instruction import Instruction
from mgc.isa.instructions import Host, Load, Mvm, Step, Store, Vec
from mgc.isa.instructions import Program as WriteCells
from mgc.isa.program import Program

_STEPS = 4


def onnx_nodes(program: Program, instruction: Instruction) -> tuple[str, ...]:
    """The ONNX nodes that an instruction computes."""
    return program.sources[instruction.source] if instruction.source >= 0 else ()


def subject(program: Program, instruction: Instruction) -> str:
    """What the instruction is about: its crossbar group, port, host ops, vector functions, or the buffer it makes."""
    match instruction:
        case Mvm(group=group) | WriteCells(group=group):
            return program.groups[group].name
        case Load(port=port):
            return program.inputs[port].name
        case Store(port=port):
            return program.outputs[port].name
        case Host(segment=segment):
            return ", ".join(dict.fromkeys(program.host_segments[segment].op_types))
        case Vec(steps=steps) if steps:
            done = [step_name(s) for s in steps]
            return "+".join([*done[:_STEPS], "…"] if len(done) > _STEPS else done)
    return ", ".join(program.buffers[b].name for b in instruction.writes())


def step_name(step: Step) -> str:
    """The function of a step; of a table look-up, the function that the table stands for."""
    name = function(step.function).name
    return function(int(step.attributes[0])).name if name == "lookup" else name


def label(program: Program, instruction: Instruction) -> str:
    """Mnemonic and subject: "mvm conv1"."""
    return f"{instruction.mnemonic} {subject(program, instruction)}"


def is_task(program: Program, instruction: Instruction) -> bool:
    """Whether the schedule times it (PROGRAM runs before the first micro-batch and is no task)."""
    return not isinstance(instruction, WriteCells)
