"""`diff_block` -> DIFF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mgc.functions.losses import LOSS_CODES, PAIRINGS
from mgc.ir.graph import Node
from mgc.ir.ops import DiffBlock
from mgc.isa.instructions import CONSTANT, Diff, Ref
from mgc.isa.memory import Constant
from mgc.targets.codegen.diff_tables import chip_table
from mgc.targets.cost import CostModel

if TYPE_CHECKING:
    from mgc.targets.codegen.emit import Walk


def diff_instruction(walk: Walk, common: Mapping[str, Any], node: Node, segments: int) -> Diff:
    """The DIFF of a `diff_block` node; results that have no buffer are not wanted.

    `common` holds the fields of every instruction; `segments` is the target's `diff_block.table_segments`.
    """
    op = node.op
    if not isinstance(op, DiffBlock):
        raise TypeError(f"a {op.name} is no diff_block")
    table = chip_table(op, segments)
    operands = [walk.ref(v) for v in node.inputs]
    loss, *deltas = (walk.buffer_of.get(v, -1) for v in node.outputs)
    name = op.function if op.table is not None else "logistic"
    return Diff(
        **common,
        function=LOSS_CODES[op.function],
        pairing=PAIRINGS.index(op.pairing),
        sign=op.sign,
        target=op.target,
        scale=op.scale(node.inputs[0].tensor.size),
        scores=tuple(operands[: op.scores]),
        targets=tuple(operands[op.scores :]),
        loss=loss,
        deltas=tuple(deltas),
        table=() if table.rows is None else (_table(walk, f"diff.{name}", table.rows),),
        lo=table.lo,
        step=table.step,
        exact=() if op.table is None else (_table(walk, "diff.exact", op.table.segments),),
        low=table.low,
        high=table.high,
        value_error=table.value_error,
        slope_error=table.slope_error,
    )


def diff_cycles(cost: CostModel, node: Node) -> int:
    """Duration of a `diff_block` node."""
    scores, averaged = diff_counts(node)
    return cost.diff_cycles(scores, averaged)


def diff_counts(node: Node) -> tuple[int, int]:
    """(scores that are worked on, scores whose mean is subtracted from them)."""
    op = node.op
    averaged = isinstance(op, DiffBlock) and op.pairing == "average"
    return node.inputs[0].tensor.size, node.inputs[1].tensor.size if averaged else 0


def _table(walk: Walk, name: str, data: np.ndarray) -> Ref:
    """A constant with a table; equal tables are one."""
    data = np.ascontiguousarray(data)
    for constant in walk.constants:
        known = walk.tensors[constant.tensor]
        same = constant.name == name and known.dtype == data.dtype and known.shape == data.shape
        if same and known.tobytes() == data.tobytes():
            return Ref(CONSTANT, constant.id)
    index = len(walk.constants)
    walk.tensors[f"const.{index}"] = data
    walk.constants.append(Constant(index, name, f"const.{index}"))
    return Ref(CONSTANT, index)
