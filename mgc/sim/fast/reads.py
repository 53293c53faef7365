"""MVM and MVM_T in a plan: those of one destination together, as constant weights or as versions that change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mgc.isa.instructions import Mvm, MvmT
from mgc.sim.fast import mvm, transposed
from mgc.sim.fast.builder import LoweredStep, PlanBuilder
from mgc.sim.fast.graph import NotLoweredError
from mgc.sim.fast.values import GraphValue
from mgc.sim.fast.weights import WeightVariable


def lower_read(builder: PlanBuilder, m: Mvm | MvmT) -> None:
    """Puts it beside the other reads of its destination: they write disjoint places of it, or add into it."""
    root = builder.program.root(m.dst)
    reads = builder.deferred.setdefault(root, _Reads(builder, root))
    assert isinstance(reads, _Reads)
    if isinstance(m, MvmT) and not m.accumulate:
        reads.instructions.clear()
    reads.instructions.append(m)
    if m.group in builder.versions:
        builder.versions_read[m.id] = builder.versions[m.group]


@dataclass
class _Reads:
    """The reads that write one root buffer."""

    builder: PlanBuilder
    root: int
    instructions: list[Mvm | MvmT] = field(default_factory=list)

    def finish(self) -> None:
        """See `mgc.sim.fast.builder.Deferred`."""
        builder, reads = self.builder, self.instructions
        program = builder.program
        del builder.deferred[self.root]
        try:
            if len({program.root(m.src) for m in reads}) > 1:
                raise NotLoweredError("MVMs of several sources")
            source = builder.buffer(reads[0].src)
            if not isinstance(source, GraphValue):
                raise NotLoweredError("an MVM of constants")
            value, kernels = _product(builder, reads, source, program.buffers[self.root].shape)
        except NotLoweredError as error:
            builder.as_reference(reads, str(error))
            return
        builder.hold(self.root, builder.define(value))
        builder.placements += [LoweredStep(m.id, m.mnemonic, k) for m, k in zip(reads, kernels, strict=True)]


def _product(
    builder: PlanBuilder, instructions: Sequence[Mvm | MvmT], source: GraphValue, shape: tuple[int, ...]
) -> tuple[GraphValue, Sequence[str]]:
    """What reads of one source make of one destination, and the kernel used for each of them."""
    program, ideal, versions = builder.program, builder.ideal, builder.versions
    forward = [m for m in instructions if isinstance(m, Mvm)]
    backward = [m for m in instructions if isinstance(m, MvmT)]
    if forward and backward:
        raise NotLoweredError("reads of both kinds into one destination")
    if forward and not any(m.group in versions for m in forward):
        return mvm.lower(builder.open_graph(), program, forward, source, shape, ideal, {})
    if any(m.group not in versions for m in instructions):
        raise NotLoweredError("reads of groups of which only some change")
    if not ideal and any((m.group, m.transposed) in builder.lossy for m in instructions):
        raise NotLoweredError("columns that are not exact" if forward else "transposed reads that need not be exact")
    versions_read = {(m.group, builder.versions_read[m.id].whole.id) for m in instructions}
    if len(versions_read) > len({m.group for m in instructions}):
        raise NotLoweredError("reads of two versions of a group")
    g = builder.open_graph()
    groups = {m.group: WeightVariable(g, program.groups[m.group], builder.weights(m), ideal) for m in instructions}
    if forward:
        return mvm.lower(g, program, forward, source, shape, ideal, groups)
    value, kernel = transposed.lower(g, groups, backward, source, shape, ideal)
    return value, [kernel] * len(backward)
