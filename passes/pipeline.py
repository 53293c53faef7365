"""The order of the passes."""

from __future__ import annotations

from typing import Literal

from mgc.passes.assume_ranges import AssumeRanges
from mgc.passes.calibrate import Calibrate
from mgc.passes.fold import Fold
from mgc.passes.lower_conv import LowerConv
from mgc.passes.lower_moves import LowerMoves
from mgc.passes.lower_vec import LowerVec
from mgc.passes.manager import Pass
from mgc.passes.mapping import MAPPING_PASSES
from mgc.passes.quantize import Quantize
from mgc.passes.split_batch import SplitBatch

CalibrationMethod = Literal["error", "minmax", "none"]


def inference_passes(method: CalibrationMethod) -> tuple[Pass, ...]:
    """From the imported level-1 graph to a scheduled plan, for inference; "none" is for `float` numerics only."""
    return (
        SplitBatch(),
        Fold(),
        AssumeRanges() if method == "none" else Calibrate(method),
        LowerConv(),
        Quantize("minmax" if method == "none" else method),
        LowerMoves(),
        LowerVec(),
        *(mapping() for mapping in MAPPING_PASSES),
    )
