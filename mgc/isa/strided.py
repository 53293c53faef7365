"""Address generators: the bounds of strided boxes over flat buffers."""

from __future__ import annotations

from collections.abc import Sequence

from mgc.isa.error import ProgramError


def check_box(what: str, base: int, extents: Sequence[int], strides: Sequence[int], size: int) -> None:
    """Raises ProgramError unless every address of the box is inside 0 .. size - 1."""
    if len(extents) != len(strides):
        raise ProgramError(f"{what}: {len(extents)} extents but {len(strides)} strides")
    if any(e < 0 for e in extents):
        raise ProgramError(f"{what}: extents {tuple(extents)} are not all >= 0")
    if 0 in extents:
        return
    reach = [(e - 1) * s for e, s in zip(extents, strides, strict=True)]
    low, high = base + sum(min(r, 0) for r in reach), base + sum(max(r, 0) for r in reach)
    if low < 0 or high >= size:
        raise ProgramError(f"{what}: addresses {low}..{high} leave the {size} elements there are")


def check_distinct(what: str, extents: Sequence[int], strides: Sequence[int]) -> None:
    """Raises ProgramError unless the strides nest, so that no two indices of the box share an address."""
    reach = 0
    for stride, extent in sorted((abs(s), e) for s, e in zip(strides, extents, strict=True) if e > 1):
        if stride <= reach:
            raise ProgramError(f"{what}: strides {tuple(strides)} of extents {tuple(extents)} meet an address twice")
        reach += stride * (extent - 1)
