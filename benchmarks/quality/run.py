# SPDX-License-Identifier: Apache-2.0
"""Trains the same GAN with PyTorch and with mgc, and measures how far their images are from real ones.

    python -m benchmarks.quality.run --out DIR        (needs torch and onnxscript: `pip install -e .[models]`)

For each seed and each way (pytorch, or mgc in one of its numerics) the same initial weights, batches and noise. At the
points of training that are asked for, the generator is exported, makes 10,000 images in ONNX Runtime from noise that is
the same for all, and the Frechet distance of these to the 10,000 test images is taken; after the last point mgc's
testing entry makes them on the simulated chip, too. What is done is kept in DIR and not done again: a run that was
stopped can be started anew. `python -m benchmarks.quality.report DIR` makes the tables and pictures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.quality.networks import LATENT, WIDTH, export_networks, networks
from mgc.evaluation.distances import Gaussian, distance, gaussian
from mgc.evaluation.metrics import FeatureNetwork
from mgc.training import noise
from models.fashion import DEBIAN_FOLDER, load_images, pad_to_32, to_unit

WAYS = ("pytorch", "float", "quantized", "device")
POINTS = (500, 1000, 1500, 1750, 2000, 2250, 2500)
BATCH = 64
LR = 1e-3
IMAGES = 10_000
BETAS = (0.5, 0.999)
NOTE = "experiment.json"
"""In the folder of an experiment: what its results depend on."""


@dataclass
class Result:
    """Of one training: distances by point (steps done), and of images made on the chip; losses; seconds a step."""

    way: str
    seed: int
    distances: dict[str, float] = field(default_factory=dict)
    on_chip: float | None = None
    history: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Experiment:
    """What is trained, and how far."""

    out: Path
    data: Path
    points: tuple[int, ...]
    lr: float
    batch: int
    width: int
    latent: int
    target: str
    engine: str
    threads: int

    def describe(self) -> dict[str, object]:
        """What results depend on."""
        return {
            "points": list(self.points),
            "lr": self.lr,
            "batch": self.batch,
            "width": self.width,
            "latent": self.latent,
            "target": self.target,
        }

    def folder(self, seed: int, way: str) -> Path:
        """Where one training keeps its files."""
        return self.out / f"seed{seed}" / way

    def generator(self, seed: int, way: str, point: int) -> Path:
        """The generator that a training exports at a point."""
        return self.folder(seed, way) / f"step-{point:06d}" / "generator.onnx"

    @property
    def images(self) -> Path:
        return self.data / "train-images-idx3-ubyte.gz"


def result_path(out: Path, seed: int, way: str) -> Path:
    """The result of one training, JSON."""
    return out / f"seed{seed}" / way / "result.json"


def load_result(path: Path) -> Result:
    """A result as `save` wrote it."""
    return Result(**json.loads(path.read_text()))


def test_noise(latent: int) -> np.ndarray:
    """What every generator makes its images from: [IMAGES, latent, 1, 1]."""
    return noise.normal(0, "quality", 0, (IMAGES, latent, 1, 1), np.dtype(np.float32))


def generate(path: Path, z: np.ndarray, threads: int) -> np.ndarray:
    """Images of an exported generator in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.concatenate([np.asarray(session.run(None, {"z": z[i : i + 500]})[0]) for i in range(0, len(z), 500)])


def train_pytorch(experiment: Experiment, seed: int, result: Result) -> None:
    """PyTorch's training; writes the generator of every point."""
    import torch

    from benchmarks.quality import baseline
    from models.export import export

    torch.set_num_threads(experiment.threads)
    steps = experiment.points[-1]
    generator, discriminator = networks(seed, experiment.width, experiment.latent)
    gan = baseline.Gan(generator, discriminator, experiment.lr, BETAS)
    feeds = baseline.batches(experiment.images, experiment.batch, experiment.latent, steps, seed)
    history: dict[str, list[float]] = {"loss_d": [], "loss_g": []}

    def after(step: int, losses: Mapping[str, float]) -> None:
        for name, values in history.items():
            values.append(losses[name])
        if step in experiment.points:
            path = experiment.generator(seed, "pytorch", step)
            path.parent.mkdir(parents=True, exist_ok=True)
            names = {"input_name": "z", "output_name": "image"}
            example = torch.zeros(2, experiment.latent, 1, 1)
            export(generator, path, example, exporter="torchscript", keep_batchnorm=True, **names)
            gan.ready()

    begin = time.perf_counter()
    baseline.train(gan, feeds, steps, after)
    result.seconds = (time.perf_counter() - begin) / steps
    result.history = history


def train_mgc(experiment: Experiment, seed: int, way: str, result: Result) -> None:
    """`mgc compile`, then `mgc train` from point to point; every leg resumes from the checkpoint of the one before."""

    folder = experiment.folder(seed, way)
    program = folder.parent / "T.mgc"
    if not program.exists():
        generator, discriminator = export_networks(folder.parent, seed, experiment.width, experiment.latent)
        adam = ["--optimizer", "adam", "--lr", experiment.lr, "--betas", ",".join(map(str, BETAS))]
        networks = [generator, "--discriminator", discriminator, "--loss", "bce"]
        _mgc("compile", *networks, *adam, "--batch", experiment.batch, "--target", experiment.target, "-o", program)
    how = ["--numerics", way, "--engine", experiment.engine, "--threads", experiment.threads]
    kept = ["--checkpoint", folder / "checkpoint", "--resume", "--checkpoint-every", 100]
    spent, done = result.seconds, 0
    for point in experiment.points:
        path = experiment.generator(seed, way, point)
        if not path.exists():
            goal = ["--steps", point, "--seed", seed, "--export", path.parent]
            told = _mgc("train", program, "--data", experiment.images, *how, *kept, *goal, "--json")
            result.history = told["history"]
            ran = point - told["resumed_from"]
            # per step, over the steps that were run without being stopped
            spent = (spent * done + told["seconds"]) / (done + ran) if ran else spent
            done += ran
            result.seconds = spent
            save(experiment, result)
        else:
            done = point


def _mgc(*arguments: object) -> dict[str, Any]:
    """Runs an mgc command; its JSON with --json, else {}. RuntimeError with its messages if it fails."""
    told = subprocess.run(
        [sys.executable, "-m", "mgc", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if told.returncode:
        raise RuntimeError(f"mgc {' '.join(map(str, arguments))} ended with {told.returncode}:\n{told.stderr}")
    return json.loads(told.stdout) if "--json" in arguments else {}


def save(experiment: Experiment, result: Result) -> None:
    """Writes what is known so far."""
    path = result_path(experiment.out, result.seed, result.way)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(result)))


def measure(experiment: Experiment, result: Result, real: Gaussian, z: np.ndarray) -> None:
    """The distances of all points, then that of images made on the chip."""
    network = FeatureNetwork(threads=experiment.threads)
    for point in experiment.points:
        if str(point) not in result.distances:
            images = generate(experiment.generator(result.seed, result.way, point), z, experiment.threads)
            result.distances[str(point)] = distance(
                gaussian(FeatureNetwork(threads=experiment.threads).features(images)), real
            )
    if result.way != "pytorch" and result.on_chip is None:
        images = on_chip(experiment, result.seed, result.way, z)
        result.on_chip = distance(gaussian(network.features(images)), real)
    save(experiment, result)


def on_chip(experiment: Experiment, seed: int, way: str, z: np.ndarray) -> np.ndarray:
    """What the testing entry makes of z with the last checkpoint's weights, in the numerics of the training."""
    folder = experiment.folder(seed, way)
    source, made = folder / "z.npy", folder / "images.npz"
    np.save(source, z)
    how = ["--numerics", way, "--engine", experiment.engine, "--threads", experiment.threads]
    weights = ["--checkpoint", folder / "checkpoint", "--seed", seed]
    _mgc("run", folder.parent / "T.mgc", "-n", len(z), "--input", f"z={source}", *how, *weights, "-o", made)
    with np.load(made) as arrays:
        return arrays["image"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for what is trained, kept from run to run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--points", type=int, nargs="+", default=list(POINTS), help="measure after so many steps")
    parser.add_argument("--lr", type=float, default=LR)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--width", type=int, default=WIDTH, help="channels of the networks at 16x16")
    parser.add_argument("--latent", type=int, default=LATENT, help="numbers in a vector of noise")
    parser.add_argument("--target", default="liu2018")
    parser.add_argument("--engine", default="fast")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=DEBIAN_FOLDER, help="folder of the Fashion-MNIST files")
    options = parser.parse_args()
    points = tuple(sorted(set(options.points)))
    how = (options.lr, options.batch, options.width, options.latent, options.target, options.engine, options.threads)
    experiment = Experiment(options.out, options.data, points, *how)
    noted = options.out / NOTE
    if noted.exists() and json.loads(noted.read_text()) != experiment.describe():
        print(f"{noted}: another experiment is kept there: give another --out", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    noted.write_text(json.dumps(experiment.describe()))
    run(experiment, options.seeds, options.ways)
    return 0


def run(experiment: Experiment, seeds: Sequence[int], ways: Sequence[str]) -> None:
    """Trains and measures what is not done yet, seed by seed."""
    held_out = to_unit(pad_to_32(load_images(experiment.data, split="t10k"))).numpy()
    real, z = gaussian(FeatureNetwork(threads=experiment.threads).features(held_out)), test_noise(experiment.latent)
    for seed in seeds:
        for way in ways:
            path = result_path(experiment.out, seed, way)
            result = load_result(path) if path.exists() else Result(way, seed)
            if any(not experiment.generator(seed, way, point).exists() for point in experiment.points):
                if way == "pytorch":
                    train_pytorch(experiment, seed, result)
                else:
                    train_mgc(experiment, seed, way, result)
                save(experiment, result)
            measure(experiment, result, real, z)
            told = ", ".join(f"{point}: {value:.1f}" for point, value in result.distances.items())
            chip = "" if result.on_chip is None else f"; made on the chip {result.on_chip:.1f}"
            print(f"seed {seed} {way}: {told}{chip}; {result.seconds * 1e3:.0f} ms a step", flush=True)


if __name__ == "__main__":
    sys.exit(main())
