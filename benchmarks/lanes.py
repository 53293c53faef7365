"""`python -m benchmarks.lanes`: what lanes of the vector units cost and bring, in Markdown.

`liu2018` with as many lanes a tile as PUMA has, and fewer: area of the chip, and times and rates of GANs. The first
figure of a row is as it ships, the others are relative to it. All modelled; nothing is calibrated: only time is asked.
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx

import mgc
from benchmarks.families import FAMILIES
from benchmarks.paper.cases import WORKLOADS, train, with_keys
from mgc.targets.description import Target
from mgc.targets.loader import load_target
from mgc.targets.totals import chip_area_mm2

MODELS = Path(__file__).parents[1] / "models"
LANES = (48, 24, 16)
FAMILIES_SHOWN = ("stylegan2", "lama", "vqgan-decoder", "swinir")


def with_lanes(target: Target, lanes: int) -> Target:
    """The target with so many lanes a tile, of the area of each lane; those that drain crossbars are among them."""
    vector = target.vector
    area = vector.area_mm2 * lanes / vector.lanes_per_tile
    return with_keys(target, {"vector.lanes_per_tile": lanes, "vector.area_mm2": area})


def inference() -> dict[str, onnx.ModelProto | Path]:
    """The networks whose time is shown."""
    trained = {
        "DCGAN-32 generator": MODELS / "dcgan_fashion" / "dcgan_fashion_G.onnx",
        "ESRGAN, 16 channels": MODELS / "esrgan_rrdb" / "esrgan_rrdb_G.onnx",
    }
    return trained | {name: FAMILIES[name]() for name in FAMILIES_SHOWN}


def main() -> int:
    """Prints the table."""
    chips = [with_lanes(load_target("liu2018"), lanes) for lanes in LANES]
    print("| | " + " | ".join(f"{lanes} lanes a tile" for lanes in LANES) + " |\n|" + "---|" * (1 + len(LANES)))
    _row("area of the chip, mm2", [sum(chip_area_mm2(chip).values()) for chip in chips], "{:.1f}")
    rates = [train(WORKLOADS[0], chip).images_per_s for chip in chips]
    _row("training, DCGAN d = 64, batch 128, images/s", rates, "{:,.0f}")
    for name, model in inference().items():
        times = [1e6 * mgc.compile(model, target=chip, calibrate="none").meta["latency_s"] for chip in chips]
        _row(f"inference, {name}, us a sample", times, "{:,.1f}")
    return 0


def _row(what: str, figures: list[float], form: str) -> None:
    first, *others = figures
    print(f"| {what} | {form.format(first)} | " + " | ".join(f"x {x / first:.2f}" for x in others) + " |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
