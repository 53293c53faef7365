"""`python -m benchmarks.training`: an iteration of `mgc train` against PyTorch float32's, in Markdown.

The DCGAN of models/dcgan_fashion at two widths (its own, and that of benchmarks/quality), batch 64, Adam, from the same
weights on the same batches. Iterations are timed in turn in one process, each with the same number of threads; what
feeds them (shuffling, noise) is not timed. PyTorch runs in channels_last, which is its fast layout here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime

import mgc
from benchmarks.measure import Timing, interleaved_times, machine
from benchmarks.runs import Record, arguments, reported
from mgc.sim import Simulator
from mgc.training.trainee import Trainee

BATCH = 64
LR, BETAS = 1e-3, (0.5, 0.999)
# width (channels at 16x16) and latent size of the networks
NETWORKS = {"DCGAN-32, width 16": (16, 64), "DCGAN-32, width 40 (models/dcgan_fashion)": (40, 100)}
NUMERICS = ("float", "quantized")


def feeds(latent: int, count: int) -> list[dict[str, np.ndarray]]:
    """Batches of noise and of pictures of noise: the time does not depend on what is in them."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.0, 1.0, (count, BATCH, 1, 32, 32)).astype(np.float32)
    z = rng.standard_normal((count, BATCH, latent, 1, 1)).astype(np.float32)
    return [{"x": a, "z": b} for a, b in zip(x, z, strict=True)]


def pytorch_iteration(width: int, latent: int, batches: list[dict[str, np.ndarray]]) -> Callable[[], object]:
    """One iteration in PyTorch, on the next batch at each call."""
    import torch

    from benchmarks.quality.baseline import Gan
    from benchmarks.quality.networks import networks

    gan = Gan(*networks(0, width, latent), LR, BETAS)
    tensors = [{name: torch.from_numpy(value) for name, value in batch.items()} for batch in batches]
    for batch in tensors:
        batch["x"] = batch["x"].contiguous(memory_format=torch.channels_last)
    number = 0

    def iterate() -> object:
        nonlocal number
        number += 1
        return gan.step(**tensors[number % len(tensors)])

    return iterate


def mgc_iteration(
    program: mgc.Program, numerics: str, engine: str, threads: int, batches: list[dict[str, np.ndarray]]
) -> Callable[[], object]:
    """One iteration of `mgc train`."""
    trainee = Trainee(Simulator(program, engine, numerics, threads))  # pyright: ignore[reportArgumentType]
    number = 0

    def iterate() -> object:
        nonlocal number
        number += 1
        return trainee.step([batches[number % len(batches)]])

    return iterate


def compiled(folder: Path, width: int, latent: int) -> mgc.Program:
    """The training program, from the weights that PyTorch begins with."""
    from benchmarks.quality.networks import export_networks

    generator, discriminator = export_networks(folder, 0, width, latent)
    return mgc.compile_training(
        generator, discriminator=discriminator, loss="bce", optimizer="adam", lr=LR, betas=BETAS, batch=BATCH
    )


def row(title: str, numerics: str, threads: int, timing: Timing) -> str:
    """A line of the table."""
    return f"| {title} | {numerics} | {threads} | {timing.ours * 1e3:.0f} | {timing.other * 1e3:.0f} | {timing.ratio} |"


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="fast")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--numerics", nargs="+", choices=(*NUMERICS, "device"), default=list(NUMERICS))
    arguments(parser)
    options = parser.parse_args()
    done = reported(options, ("network", "numerics", "threads"), "PyTorch / mgc")
    if done is not None:
        return done
    record = Record(options.record)
    for module in ("torch", "onnxscript"):
        if find_spec(module) is None:
            print(f"{module} is not installed: python -m pip install -e '.[models]'", file=sys.stderr)
            return 2
    import torch

    print(f"Machine: {machine()}; torch {torch.__version__}, onnxruntime {onnxruntime.__version__}.\n")
    print(f"Median of {options.rounds} rounds; ratio with the least and the greatest of a round.\n")
    print("| network | numerics | threads | mgc, ms | PyTorch float32, ms | PyTorch / mgc |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for number, (title, (width, latent)) in enumerate(NETWORKS.items()):
            program = compiled(Path(name) / str(number), width, latent)
            batches = feeds(latent, 4)
            for numerics in options.numerics:
                for threads in options.threads:
                    torch.set_num_threads(threads)
                    ours = mgc_iteration(program, numerics, options.engine, threads, batches)
                    theirs = pytorch_iteration(width, latent, batches)
                    timing = interleaved_times(ours, theirs, options.rounds)
                    print(row(title, numerics, threads, timing), flush=True)
                    record.add((title, numerics, threads), timing.ratio)
    return 0


if __name__ == "__main__":
    sys.exit(main())
