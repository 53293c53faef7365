"""`diff_block` -> DIFF."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mgc.functions.losses import LOSS_CODES, PAIRINGS
from mgc.ir.graph import Node
from mgc.ir.ops import DiffBlock
from mgc.isa.instructions import Diff, Ref
from mgc.targets.codegen.diff_tables import chip_table


def diff_instruction(
    common: Mapping[str, Any],
    node: Node,
    segments: int,
    operands: Sequence[Ref],
    results: Sequence[int],
    table_of: Callable[[str, np.ndarray], Ref],
) -> Diff:
    """The DIFF of a `diff_block` node.

    `common` holds the fields of every instruction; `segments` is the target's `diff_block.table_segments`; `results`
    are buffers, -1 for one that is not wanted; `table_of` makes a constant with a table.
    """
    op = node.op
    if not isinstance(op, DiffBlock):
        raise TypeError(f"a {op.name} is no diff_block")
    table = chip_table(op, segments)
    loss, *deltas = results
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
        table=() if table.rows is None else (table_of(f"diff.{name}", table.rows),),
        lo=table.lo,
        step=table.step,
        exact=() if op.table is None else (table_of("diff.exact", op.table.segments),),
        low=table.low,
        high=table.high,
        value_error=table.value_error,
        slope_error=table.slope_error,
    )
