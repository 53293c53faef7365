"""What tests/checker.py checks, read from a plan."""

from checker import Buffer, Facts, Instruction
from networks import Mapped

from mgc.ir.mapped import Mvm
from mgc.ir.types import TensorType
from mgc.passes.mapping.durations import bytes_held
from mgc.passes.scheduling.operations import covers, stored
from mgc.targets.description import Target


def facts_of_plan(plan: Mapped, target: Target) -> Facts:
    graph, root = plan.graph, stored(plan.graph)
    number = {v: k for k, v in enumerate(plan.buffers)}
    instructions = []
    for op in plan.operations:
        reads, writes = (), ()
        if op.kind == "load":
            writes = (graph.inputs[op.port],)
        elif op.kind == "store":
            reads = (graph.outputs[op.port][1],)
        else:
            assert op.node is not None
            reads, writes = op.node.inputs, op.node.outputs
            if op.drain is not None:  # sums are no buffer
                reads, writes = (*reads, *op.drain.inputs[1:]), op.drain.outputs
        reads = tuple(number[root[v]] for v in dict.fromkeys(reads) if root[v] not in graph.constants)
        writes = tuple(number[v] for v in writes)
        instructions.append(Instruction(op.unit, op.duration, op.after, op.after_previous, reads, writes, False))
    holey = {n.outputs[0] for n in graph.nodes if isinstance(n.op, Mvm) and not covers(n.op)}
    buffers = {}
    for value, b in plan.buffers.items():
        nbytes = bytes_held(value.type) if isinstance(value.type, TensorType) else 0
        buffers[number[value]] = Buffer(b.space, b.offset, nbytes, b.slots, value in holey)
    s = plan.schedule
    assert s is not None
    capacity = {"edram": target.edram.bytes_per_tile * target.structure.tiles}
    return Facts(tuple(instructions), buffers, s.starts, s.makespan, s.lower_bound, capacity)
