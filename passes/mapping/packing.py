"""How the slices and signs of a weight lie on crossbars: side by side, or as planes of many columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mgc.functions.codes import in_steps
from mgc.ir.mapped import MvmPart
from mgc.passes.mapping.crossbar_rows import exact_columns
from mgc.passes.mapping.plan import Resident
from mgc.passes.mapping.reads import Reads
from mgc.targets.description import Crossbar, Target


def crossbars_of(part: MvmPart, crossbar: Crossbar, plane_columns: int = 0) -> int:
    """Crossbars of one replica of a part, packed in planes of so many columns (0: slices and signs side by side); they
    are numbered matrix-major, then row block, then column block.
    """
    blocks = crossbar.row_blocks(part.rows) * crossbar.column_blocks(part.cols, plane_columns=plane_columns)
    return part.matrices * blocks


@dataclass(frozen=True)
class GroupUse:
    """A group of a layer, and how often it is read in an iteration. `frozen` are its whole numbers if nothing writes
    them.
    """

    part: MvmPart
    reads: Reads
    frozen: np.ndarray | None = None

    @staticmethod
    def of(resident: Resident, reads: Reads, crossbar: Crossbar) -> GroupUse:
        """That of a resident. ValueError for one that is no group."""
        if resident.part is None:
            raise ValueError(f"{resident.name} is no group")
        frozen = resident.cells
        if frozen is None and not resident.state:
            frozen = in_steps(resident.initial, resident.weight_scale, crossbar.weight_bits)
        return GroupUse(resident.part, reads, frozen)


def plane_columns_of(uses: Sequence[GroupUse], target: Target, *, least: bool = False) -> int:
    """Columns of a plane for all groups of a layer; 0: slices and signs side by side.

    That which keeps fewest crossbars busy for least time, forward and transposed reads together; with `least`, that
    which takes fewest crossbars. No transposed read adds up more columns than its ADC holds whatever the weights are
    (or than side by side), unless the target accepts what clips, or all weights are known and none does.
    """
    crossbar, training = target.crossbar, target.training
    if training.packing == "interleaved" or not any(use.reads.transposed for use in uses):
        return 0
    widest = min(crossbar.cols, max(use.part.cols for use in uses))
    safe = max(crossbar.transposed_columns(), crossbar.max_code // crossbar.largest_product)

    def cost(plane_columns: int) -> tuple[int, int, int]:
        sizes = [crossbars_of(use.part, crossbar, plane_columns) for use in uses]
        turns = crossbar.transposed_turns(plane_columns=plane_columns)
        busy = sum(size * use.reads.turns(turns) for size, use in zip(sizes, uses, strict=True))
        return (sum(sizes), busy, plane_columns) if least else (busy, sum(sizes), plane_columns)

    # where so many planes fit side by side, the widest take the fewest crossbars; wider than the layer is of no use
    fit = range(1, min(crossbar.cols, crossbar.slices() * crossbar.signs) + 1)
    widths = [max(min(widest, crossbar.cols // n), crossbar.cols // (n + 1) + 1) for n in fit]
    candidates = {0, *widths, *(min(w, safe) for w in widths)}
    ranked = sorted(candidates, key=cost)
    return next(w for w in ranked if w <= safe or training.transposed_clip or _never_clips(uses, w, crossbar))


def _never_clips(uses: Sequence[GroupUse], plane_columns: int, crossbar: Crossbar) -> bool:
    """Whether transposed reads of planes of so many columns lose nothing, for weights that stay as they are."""
    turned = crossbar.model_copy(update={"rows": plane_columns})
    return all(
        use.frozen is not None and bool(exact_columns(use.frozen.swapaxes(1, 2), turned, signed=True).all())
        for use in uses
        if use.reads.transposed
    )
