"""A GAN iteration of unit stages, as PipeLayer counts them: a layer takes a cycle for a sample, forward or backward,
and its weight gradient is made in the same cycle. It goes the way that real programs take, from operations on.
"""

from dataclasses import dataclass, field, replace

from mgc.ir.graph import Node, Value
from mgc.ir.ops import Unary
from mgc.ir.types import DType, TensorType
from mgc.passes.mapping.plan import Operation, UnitPlan
from mgc.passes.scheduling.entry import EntryRun, finer, problem_of, schedule_entry
from mgc.passes.scheduling.operations import Work
from mgc.passes.scheduling.sections import arrange
from mgc.passes.scheduling.solver import SolverOptions
from mgc.passes.streaming.analysis import Streaming

G, D, BATCH = 5, 5, 64  # layers of both networks, samples


def spread(problem, choices):
    """The units of the operations, one chosen for each in `choices`, which gives those that can run it; all tasks of an
    operation run on one.

    In the order in which they could start by precedence alone, operations go where the least other work may want the
    unit at the same time, then where the least work is at all. That is a rule, not a proof; the bounds of the schedule
    are those of the problem it makes.
    """
    tasks = problem.tasks
    window = {}
    for t, i in enumerate(tasks.operation):
        begin, end = window.get(i, (tasks.heads[t], 0))
        window[i] = min(begin, tasks.heads[t]), max(end, tasks.heads[t] + tasks.durations[t])
    held = {}
    units = list(problem.units)
    for i, unit in enumerate(units):
        if i not in choices:
            held.setdefault(unit, []).append(i)
    for i in sorted(choices, key=lambda i: (window[i], i)):
        rival = {}
        for unit in choices[i]:
            others = held.get(unit, [])
            meeting = sum(max(0, min(window[i][1], window[j][1]) - max(window[i][0], window[j][0])) for j in others)
            rival[unit] = meeting, sum(problem.durations[j] * problem.count(j) for j in others), unit
        units[i] = min(choices[i], key=rival.__getitem__)
        held.setdefault(units[i], []).append(i)
    return units


@dataclass(frozen=True)
class Stage:
    """What one operation reads (by number), on which units it may run, and the update that it needs."""

    units: tuple[tuple, ...]
    reads: tuple[int, ...]
    version: tuple[int, ...]
    whole: bool
    node: Node


@dataclass
class Gan:
    """The stages of an iteration; `copies` of the discriminator can be chosen from."""

    copies: int = 1
    stages: list[Stage] = field(default_factory=list)

    def add(self, units, reads, version=(), *, whole=False):
        value = Value(f"v{len(self.stages)}", TensorType(DType.F32, (BATCH,)))
        self.stages.append(Stage(tuple(units), tuple(reads), tuple(version), whole, Node(Unary("neg"), (), (value,))))
        return len(self.stages) - 1

    def chain(self, net, way, reads=(), version=()):
        """The layers of a network one after the other; the number of the last, and all of them."""
        layers = range(G if net == "G" else D)
        made = []
        for layer in layers if way == "forward" else layers[::-1]:
            units = [(net, way, layer, copy) for copy in range(self.copies if net == "D" else 1)]
            made.append(self.add(units, made[-1:] or reads, version))
            version = ()
        return made

    def loss(self, scores):
        return [self.add([("loss", copy) for copy in range(self.copies)], scores[-1:])]

    def iteration(self, *, share_forward=True, old_discriminator=False):
        """D on real samples, D on fake ones, update, G's step, update.

        `share_forward`: G's step takes its samples from D's. `old_discriminator`: and the scores of these too.
        """
        real = self.chain("D", "backward", self.loss(self.chain("D", "forward")))
        samples = self.chain("G", "forward")
        scores = self.chain("D", "forward", samples[-1:])
        fake = self.chain("D", "backward", self.loss(scores))
        update = self.add([("update", "D")], [*real, *fake], whole=True)
        if not old_discriminator:
            samples = samples if share_forward else self.chain("G", "forward")
            scores = self.chain("D", "forward", samples[-1:], [update])
        error = self.chain("D", "backward", self.loss(scores))
        gradients = self.chain("G", "backward", error[-1:])
        self.updates = {update: 0, self.add([("update", "G")], gradients, whole=True): 1}
        return self

    def work(self, split, offchip=frozenset()):
        """The operations with the batch in `split` parts."""
        names = list(dict.fromkeys(u for s in self.stages for u in s.units))
        operations = []
        for s in self.stages:
            streamed = split > 1 and not s.whole
            choices = tuple(names.index(u) for u in s.units)
            operations.append(
                Operation(
                    "update" if s.whole else "vec",
                    choices[0],
                    1 if s.whole else BATCH // split,
                    tuple(sorted({*s.reads, *s.version})),
                    node=s.node,
                    streamed=streamed,
                )
            )
        values = [s.node.outputs[0] for s in self.stages]
        readers = {v: tuple(k for k, s in enumerate(self.stages) if n in s.reads) for n, v in enumerate(values)}
        units = tuple(UnitPlan(" ".join(map(str, name)), "vector") for name in names)
        writers = {v: (k,) for k, v in enumerate(values)}
        work = Work(tuple(operations), units, writers, readers, dict.fromkeys(values, 0), frozenset())
        # units are chosen for the operations in the order that the data flow gives them
        flowing = arrange(work, self.updates, self.streaming, self.flow).operations
        several = {s.node: tuple(map(names.index, s.units)) for s in self.stages if len(s.units) > 1}
        problem = problem_of(flowing, split, cut=split > 1)
        chosen = spread(problem, {k: several[op.node] for k, op in enumerate(flowing) if op.node in several})
        unit = {op.node: own for op, own in zip(flowing, chosen, strict=True)}
        return replace(work, operations=tuple(replace(op, unit=unit[op.node]) for op in operations))

    def schedule(self, flow):
        """(parts of the batch, plan)."""
        nodes = [s.node for s in self.stages if not s.whole]
        streaming = Streaming(BATCH, {n.outputs[0]: 0 for n in nodes}, frozenset(nodes))
        self.flow, self.streaming = flow, streaming
        roots = {s.node.outputs[0]: s.node.outputs[0] for s in self.stages}
        iteration = EntryRun(self.work, streaming, roots, lambda work: self.updates, flow)
        found = schedule_entry(iteration, finer(BATCH), 0, SolverOptions())
        return found.parts, found.schedule
