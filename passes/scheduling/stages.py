"""How far operations run ahead of one another where a batch is cut into parts.

Barriers, where an operation waits for all parts of another, cut a run into stages. What comes and goes within one needs
bytes for few of its parts at once; without a limit, fast operations run far ahead of those that use what they make.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from mgc.ir.graph import Value
from mgc.passes.mapping.plan import Operation
from mgc.passes.scheduling.operations import Work


def stages_of(operations: Sequence[Operation]) -> list[int]:
    """The latest stage of each operation: one that waits for all parts of another comes at least one stage after it."""
    last = [len(operations)] * len(operations)
    for k in range(len(operations) - 1, -1, -1):
        op = operations[k]
        for j in op.after:
            last[j] = min(last[j], last[k] - (op.streamed != operations[j].streamed))
        for j in op.after_all:
            last[j] = min(last[j], last[k] - 1)
    return last


def passing(
    work: Work, axes: Collection[Value], roots: Mapping[Value, Value], apart: Sequence[Collection[int]] = ()
) -> list[Value]:
    """Values that are made and used part by part in one stage: some limit to the slots of these leaves no circle of
    waits. `axes` are the values that are there part by part, `roots` tells in whose memory each lies. Of a value all
    users are in each of the sets `apart`, or none is.
    """
    operations, stages = work.operations, stages_of(work.operations)
    whole = {
        roots[v]
        for op in operations
        for v in (op.node.inputs if op.node is not None else ())
        if v in roots and v not in axes
    }
    found: list[Value] = []
    for value, writers in work.writers.items():
        users = [*writers, *work.readers[value]]
        if value not in axes or value in whole or value in work.holey or not work.readers[value]:
            continue
        if len({stages[k] for k in users}) > 1 or not all(operations[k].streamed for k in users):
            continue
        if all(len({k in group for k in users}) == 1 for group in apart):
            found.append(value)
    return found
