"""The passes of every program, in order. Codegen, which follows, is `mgc.targets.codegen`."""

from __future__ import annotations

from dataclasses import replace

from mgc.passes.lowering.drain_sums import DrainSums
from mgc.passes.lowering.lower_linear import LowerLinear
from mgc.passes.lowering.lower_moves import LowerMoves
from mgc.passes.lowering.lower_vec import LowerVec
from mgc.passes.lowering.settle_versions import SettleVersions
from mgc.passes.manager import Pass
from mgc.passes.mapping.allocate import Objective
from mgc.passes.mapping.groups import Allocate, PlaceGroups, SendValues
from mgc.passes.mapping.partition import Partition
from mgc.passes.quantizing.calibrate import EXTRA_BITS, CalibrationMethod, Scales
from mgc.passes.quantizing.equalize import Equalize
from mgc.passes.quantizing.quantize import Quantize
from mgc.passes.scheduling.schedule import Schedule
from mgc.passes.tensor.fold import Fold
from mgc.passes.tensor.split_batch import SplitBatch

MAPPING: tuple[Pass, ...] = (Partition(), Allocate(), PlaceGroups(), DrainSums(), SendValues(), Schedule())
"""What turns level-2 graphs after lower-vec into plans."""


def passes(
    method: CalibrationMethod = "error",
    *,
    training: bool = False,
    objective: Objective = "edp",
    extra_bits: float = EXTRA_BITS,
) -> tuple[Pass, ...]:
    """From imported networks to scheduled plans. `method` says how the scales of an inference program are chosen,
    `extra_bits` what more bits of values may cost, `objective` what replicas are to make least; only where something is
    trained are there losses to compose, to fuse and to differentiate.
    """
    forward: tuple[Pass, ...] = ()
    if training:  # whose import takes a tenth of a second
        from mgc.passes.training.passes import Compose, Differentiate, FuseLoss, Testing

        forward = (Compose(), FuseLoss(), Differentiate(), Testing())
    quantize = Quantize("minmax" if method == "none" else method)
    level_two = (LowerLinear(objective), quantize, LowerMoves(), SettleVersions(), LowerVec())
    mapping = (replace(p, objective=objective) if isinstance(p, Allocate) else p for p in MAPPING)
    return (*forward, SplitBatch(), Fold(), Equalize(method), Scales(method, extra_bits), *level_two, *mapping)
