"""The address generator of a part as an instruction's fields."""

from __future__ import annotations

from typing import Any

from mgc.ir.mapped import CHANNEL_MAJOR, MvmPart


def window_fields(part: MvmPart) -> dict[str, Any]:
    """The fields that MVM, MVM_T and OUTER have in common."""
    w = part.windows
    return {
        "tap_fastest": part.row_order == CHANNEL_MAJOR,
        "count": w.count,
        "taps": w.taps,
        "in_base": w.in_base,
        "in_stride": w.in_stride,
        "in_dilation": w.in_dilation,
        "out_base": w.out_base,
        "out_stride": w.out_stride,
    }
