# SPDX-License-Identifier: Apache-2.0
"""Tables and pictures of what `benchmarks.quality.run` kept.

    python -m benchmarks.quality.report DIR [--images docs/images]

Prints the Markdown tables of docs/quality.md and draws a grid for each way of training: two rows of images for each
seed, from the same noise in every grid.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.quality.run import NOTE, WAYS, Result, generate, load_result, result_path, test_noise
from mgc.evaluation.distances import distance, gaussian
from mgc.evaluation.metrics import FeatureNetwork
from models.fashion import DEBIAN_FOLDER, load_images, pad_to_32, to_unit
from models.grid import save_grid

COLUMNS = 16
Results = Mapping[tuple[int, str], Result]


def late(result: Result, last: int) -> float:
    """The mean distance over the last points."""
    points = sorted(result.distances, key=int)[-last:]
    return statistics.mean(result.distances[point] for point in points)


def final(result: Result) -> float:
    """The distance after the last step."""
    return result.distances[max(result.distances, key=int)]


def progress_table(results: Results, seeds: Sequence[int], ways: Sequence[str]) -> list[str]:
    """Distance by point of training, the mean over the seeds."""
    points = sorted(next(iter(results.values())).distances, key=int)
    lines = ["| steps | " + " | ".join(points) + " |", "|---|" + "---|" * len(points)]
    for way in ways:
        means = [statistics.mean(results[seed, way].distances[p] for seed in seeds) for p in points]
        lines.append(f"| {way} | " + " | ".join(f"{m:.1f}" for m in means) + " |")
    return lines


def comparison_table(results: Results, seeds: Sequence[int], ways: Sequence[str], last: int) -> list[str]:
    """Distance of each training and the ratio to PyTorch's, by seed; last, the mean over the seeds and its ratio."""
    lines = ["| trained by | " + " | ".join(f"seed {s}" for s in seeds) + " | mean | ratio of means |"]
    lines.append("|---|" + "---|" * (len(seeds) + 2))
    measures: list[tuple[str, Callable[[Result], float | None], Callable[[Result], float]]] = [
        (", last point", final, final),
        (", images made on the chip", lambda r: r.on_chip, final),
    ]
    if last > 1:
        mean_of = partial(late, last=last)
        measures.insert(0, (f", mean of the last {last} points", mean_of, mean_of))
    for suffix, measure, base in measures:
        for way in ways:
            values = [measure(results[seed, way]) for seed in seeds]
            if any(v is None for v in values):
                continue
            own = [float(v) for v in values if v is not None]
            theirs = [base(results[seed, "pytorch"]) for seed in seeds]
            cells = [f"{a:.1f} ({a / b:.2f}x)" for a, b in zip(own, theirs, strict=True)]
            mean, other = statistics.mean(own), statistics.mean(theirs)
            lines.append(f"| {way}{suffix} | {' | '.join(cells)} | {mean:.1f} | {mean / other:.2f} |")
    return lines


def yardstick_table(data: Path) -> list[str]:
    """What the distance says of sets of images whose worth is known, each against the test images."""
    seen, held_out = (to_unit(pad_to_32(load_images(data, split=split))).numpy() for split in ("train", "t10k"))
    real, others = gaussian(FeatureNetwork().features(held_out)), seen[: len(held_out)]
    blurred = others
    for axis in (2, 3):
        blurred = (np.roll(blurred, 1, axis) + blurred + np.roll(blurred, -1, axis)) / np.float32(3)
    noise = np.random.default_rng(0).uniform(-1, 1, others.shape).astype(np.float32)
    sets = {
        "10,000 training images": others,
        "the same, each pixel the mean of its 3x3": blurred,
        "uniform noise": noise,
    }
    lines = ["| images | distance to the test images |", "|---|---|"]
    return lines + [f"| {n} | {distance(gaussian(FeatureNetwork().features(x)), real):.1f} |" for n, x in sets.items()]


def draw(out: Path, results: Results, seeds: Sequence[int], way: str, path: Path) -> None:
    """The grid of one way of training."""
    latent = json.loads((out / NOTE).read_text())["latent"]
    rows: list[np.ndarray] = []
    for seed in seeds:
        folder = out / f"seed{seed}" / way
        made = folder / "images.npz"
        if made.exists():
            with np.load(made) as arrays:
                images = arrays["image"][: 2 * COLUMNS]
        else:
            last = max(results[seed, way].distances, key=int)
            model = folder / f"step-{int(last):06d}" / "generator.onnx"
            images = generate(model, test_noise(latent)[: 2 * COLUMNS], 1)
        rows.append(images)
    save_grid(torch.from_numpy(np.concatenate(rows)), path, columns=COLUMNS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="what was given to benchmarks.quality.run as --out")
    parser.add_argument("--images", type=Path, help="folder for the grids")
    parser.add_argument("--last", type=int, default=4, help="compare the mean of so many points")
    parser.add_argument("--name", default="quality", help="how the files of the grids begin")
    parser.add_argument("--data", type=Path, default=DEBIAN_FOLDER, help="folder of the Fashion-MNIST files")
    options = parser.parse_args()
    seeds = sorted(int(path.name[4:]) for path in options.out.glob("seed*"))
    paths = {(seed, way): result_path(options.out, seed, way) for seed in seeds for way in WAYS}
    results = {key: load_result(path) for key, path in paths.items() if path.exists()}
    results = {key: result for key, result in results.items() if result.distances}
    whole = [seed for seed in seeds if (seed, "pytorch") in results]
    ways = [way for way in WAYS if whole and all((seed, way) in results for seed in whole)]
    if not ways:
        print(f"{options.out}: nothing is measured there yet", file=sys.stderr)
        return 2
    tables = [
        yardstick_table(options.data),
        progress_table(results, whole, ways),
        comparison_table(results, whole, ways, options.last),
    ]
    print("\n\n".join("\n".join(table) for table in tables))
    if options.images:
        for way in ways:
            draw(options.out, results, whole, way, options.images / f"{options.name}_{way}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
