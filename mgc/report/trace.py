"""What an instruction does, in words, and which ONNX nodes it came from: shared by all views."""

from __future__ import annotations

from mgc.isa.functions import function
from mgc.isa.instruction import Instruction
from mgc.isa.instructions import Host, Load, Mvm, MvmT, Outer, Step, Store, Update, Vec, WriteCells
from mgc.isa.program import Program

_STEPS = 4


def onnx_nodes(program: Program, instruction: Instruction) -> tuple[str, ...]:
    """The ONNX nodes that an instruction computes."""
    return program.sources[instruction.source] if instruction.source >= 0 else ()


def subject(program: Program, instruction: Instruction) -> str:
    """What the instruction is about: its crossbar group, what it updates, port, host ops, vector functions, or the
    buffer it makes.
    """
    match instruction:
        case Mvm(group=group) | MvmT(group=group) | WriteCells(group=group):
            return program.groups[group].name
        case Outer():
            return _gradient_of(program, instruction)
        case Update():
            return _target(program, instruction)
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


def _target(program: Program, update: Update) -> str:
    """The group or buffer whose weights an update writes."""
    return program.groups[update.group].name if update.group >= 0 else program.buffers[update.parameter].name


def _gradient_of(program: Program, outer: Outer) -> str:
    """The weights that the gradient is for: those of the first update that its result leads to."""
    reached = {program.root(outer.dst)}
    for i in program.instructions[outer.id + 1 :]:
        if not reached.isdisjoint(program.root(b) for b in i.reads()):
            if isinstance(i, Update):
                return _target(program, i)
            reached.update(program.root(b) for b in i.writes())
    return program.buffers[outer.dst].name


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
