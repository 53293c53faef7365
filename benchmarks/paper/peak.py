"""VGG-A's convolutions on ISAAC beside the peak that its paper states."""

from __future__ import annotations

from dataclasses import dataclass

import mgc
from benchmarks import networks
from mgc.targets.cost import CostModel
from mgc.targets.description import Target

ISAAC_GOPS_PER_MM2, ISAAC_MM2 = 478.95, 85.4
"""[M] ISAAC-CE's computational efficiency and area of a chip; an operation is a multiplication or an addition."""
PUBLISHED_MACS_PER_S = ISAAC_GOPS_PER_MM2 * ISAAC_MM2 * 1e9 / 2


@dataclass(frozen=True)
class PeakResult:
    """A network's inference on one chip: multiply-accumulates of an image, images a second, and the share of the time
    that the off-chip channel would take by itself.
    """

    target: str
    batch: int
    macs: float
    images_per_s: float
    peak_macs_per_s: float
    channel: float

    @property
    def of_peak(self) -> float:
        """The share of the chip's own peak."""
        return self.images_per_s * self.macs / self.peak_macs_per_s


def peak_macs_per_s(target: Target) -> float:
    """Multiply-accumulates a second with every crossbar full and read without a pause."""
    crossbar, cost = target.crossbar, CostModel(target)
    weights = target.crossbars * crossbar.rows * (crossbar.cols // (crossbar.slices() * crossbar.signs))
    return weights / cost.seconds(crossbar.digits(signed=False) * cost.read_interval_cycles())


def vgg_result(target: Target, batch: int = 64, size: int = 224) -> PeakResult:
    """VGG-A's convolutions on `size` x `size` pixels, a batch streaming through one image at a time."""
    model = networks.vgg_a(size).SerializeToString()
    program = mgc.compile(model, target=target, batch=batch, calibrate="none")
    meta, seconds = program.meta, program.meta["latency_s"]
    moved = meta["energy"]["dram"] / (target.dram.energy_pj_per_byte * 1e-12)
    return PeakResult(
        target.name,
        batch,
        meta["macs_useful"] / batch,
        batch / seconds,
        peak_macs_per_s(target),
        moved / (target.dram.bytes_per_ns * 1e9) / seconds,
    )
