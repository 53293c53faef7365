"""Training programs with all that one carries: several segments, a testing entry, the models to export to."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

sys.path.append(str(Path(__file__).parents[1] / "sim"))
from builder import ProgramBuilder
from training_programs import DENSE, TinyGan, coded, real_of

from mgc.frontend.template import composed_templates
from mgc.ir.training import State
from mgc.isa.entry import Entry
from mgc.isa.instructions import BUFFER, Load, Ref, WriteCells
from mgc.isa.program import Program
from mgc.isa.schedule import Schedule


def model(shape, into, out, weight, bias=None):
    """x @ weight (+ bias)."""
    nodes = [helper.make_node("MatMul", [into, weight], ["h" if bias else out])]
    if bias:
        nodes.append(helper.make_node("Add", ["h", bias], [out]))
    ports = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", f]) for n, f in zip((into, out), shape, strict=True)
    ]
    tensors = [onnx.numpy_helper.from_array(np.zeros(shape, np.float32), weight)]
    tensors += [onnx.numpy_helper.from_array(np.zeros(shape[1], np.float32), bias)] if bias else []
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(
        helper.make_graph(nodes, "g", ports[:1], ports[1:], tensors), opset_imports=opset, ir_version=8
    )


class _Entries(ProgramBuilder):
    """Notes where a part ends, and makes an entry of each."""

    def __init__(self, **options):
        super().__init__(**options)
        self.ends: list[int] = []

    def build_entries(self, entries):
        """The program of the parts so far: (name, kind, repeats) for each; None repeats the part before."""
        setup = [d for d in self.drafts if d[0] is WriteCells]
        parts, begin = [], 0
        for end in self.ends:
            parts.append([d for d in self.drafts[begin:end] if d[0] is not WriteCells])
            begin = end
        self.drafts = setup + [d for part in parts for d in part]
        drawn = self._unchecked()
        instructions, table, first = [], [], len(setup)
        instructions += drawn.instructions[:first]
        for k, ((name, kind, repeats), part) in enumerate(zip(entries, parts, strict=True)):
            own = range(first, first + len(part))
            starts, time = [], 0
            for i in drawn.instructions[first : own.stop]:
                near = {j for j in i.after if j in own or j < len(setup)}
                lagging = tuple((j, lag) for j, lag in i.after_previous if j in own)
                instructions.append(replace(i, after=tuple(sorted(near)), after_previous=lagging))
                starts.append(time)
                time += i.duration
            schedule = Schedule(np.array(starts, np.int64)[:, None], "FEASIBLE", time, 0)
            table.append(Entry(k, name, kind, first, own.stop, repeats, self.micro_batch, 1, False, schedule))
            first = own.stop
        program = replace(drawn, instructions=tuple(instructions), entries=tuple(table))
        program.verify()
        return program

    def _unchecked(self):
        found = []
        verify = Program.verify
        Program.verify = lambda program: found.append(program)
        try:
            self.build()
        finally:
            Program.verify = verify
        return found[0]


class GanWithEntries(TinyGan):
    """A `TinyGan` whose generator can be tested; with several critic steps the whole iteration is repeated."""

    def __init__(self, critic_steps=1, **sizes):
        self.critic_steps = critic_steps
        super().__init__(**sizes)

    def _build(self):
        made = []

        class Builder(_Entries):
            def build(builder):  # noqa: N805
                made.append(builder)
                return super().build() if builder.ends else None

        module = sys.modules["training_programs"]
        kept, module.ProgramBuilder = module.ProgramBuilder, Builder
        try:
            super()._build()
        finally:
            module.ProgramBuilder = kept
        b = made[0]
        b.ends.append(len(b.drafts))
        entries = [("step", "train", 1)]
        if self.critic_steps > 1:
            b.drafts += [d for d in b.drafts if d[0] is not WriteCells]
            b.ends.append(len(b.drafts))
            entries.insert(0, ("critic", "train", self.critic_steps - 1))
        self._add_generator(b)
        b.ends.append(len(b.drafts))
        return b.build_entries([*entries, ("generator", "test", 1)])

    def _add_generator(self, b):
        port = next(k for k, p in enumerate(b.inputs) if p.name == "z")
        z = b.buffer("real", "float32", (self.batch, self.m))
        b.add(Load, "link", port=port, dst=z.index)
        group = next(g.id for g in b.groups if b.states[0].name == "g" and g.id == b.states[0].pieces[0].group)
        bias = next(s for s in b.states if s.name == "b").pieces[0].buffer
        codes, scale = coded(b, z)
        acc = b.buffer("acc", "int64", (self.batch, self.n))
        b.mvm(group, codes, acc, True, **DENSE)
        made = real_of(b, acc, scale, None, self.scale["g"])
        b.output(self._sum(b, made, Ref(BUFFER, bias)), batched=False, name="y")


def gan_program(critic_steps=1, **sizes):
    """A small GAN as a user would compile it."""
    gan = GanWithEntries(critic_steps, **sizes)
    models = {
        "generator": model((gan.m, gan.n), "z", "y", "g", "b"),
        "discriminator": model((gan.n, 1), "x", "score", "d"),
    }
    states = [
        State(n, "parameter", getattr(gan, n), network, n, network)
        for n, network in {"g": "generator", "b": "generator", "d": "discriminator"}.items()
    ]
    templates = composed_templates(models, states)
    meta = {"export": templates.meta(), "training": {"inputs": {"x": "data", "z": "noise"}}}
    return replace(
        gan.program, tensors={**gan.program.tensors, **templates.tensors()}, meta={**gan.program.meta, **meta}
    )
