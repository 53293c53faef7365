"""`python -m benchmarks.inference`: simulated images a second against ONNX Runtime float32's, in Markdown.

Calls of both in turn in one process, each with the same number of threads.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import mgc
from benchmarks import networks
from benchmarks.measure import interleaved, machine
from benchmarks.runs import Record, arguments, reported

MODELS = Path(__file__).parents[1] / "models"


def networks_of(folder: Path) -> dict[str, Path]:
    made = {
        "DCGAN-64 generator, 3.6 M weights": networks.generator(64),
        "DCGAN-64 generator, 12.7 M weights": networks.generator(128),
        "DCGAN-64 discriminator, 11 M weights": networks.discriminator(128),
    }
    paths: dict[str, Path] = {}
    for k, (title, model) in enumerate(made.items()):
        paths[title] = folder / f"network{k}.onnx"
        onnx.save(model, paths[title])
    paths["DCGAN-32 generator of models/"] = MODELS / "dcgan_fashion" / "dcgan_fashion_G.onnx"
    paths["DCGAN-32 discriminator of models/"] = MODELS / "dcgan_fashion" / "dcgan_fashion_D.onnx"
    return paths


def runtime(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feeds_of(session: onnxruntime.InferenceSession, samples: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {i.name: rng.standard_normal([samples, *i.shape[1:]]).astype(np.float32) for i in session.get_inputs()}


def speed(paths: dict[str, Path], record: Record) -> None:
    """Simulated images per second over ONNX Runtime float32's."""
    print("\n### Simulation speed against ONNX Runtime float32 (above 1: the simulator is faster)\n")
    print("Median of 15 rounds (least to greatest).\n")
    print("| network | numerics | batch | 1 thread | 2 threads |")
    print("|---|---|---|---|---|")
    for title, path in paths.items():
        program = mgc.compile(path, batch=16, calibrate="minmax")
        for numerics in ("quantized", "float"):
            for batch in (1, 16):
                row = []
                for threads in (1, 2):
                    session = runtime(path, threads)
                    feeds = feeds_of(session, batch)
                    simulator = mgc.Simulator(program, numerics=numerics, threads=threads)
                    ratio = interleaved(
                        lambda s=simulator, f=feeds: s.run(f), lambda s=session, f=feeds: s.run(None, f)
                    )
                    row.append(str(ratio))
                    record.add((title, numerics, batch, threads), ratio)
                print(f"| {title} | {numerics} | {batch} | {' | '.join(row)} |", flush=True)


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(parser)
    options = parser.parse_args()
    done = reported(options, ("network", "numerics", "batch", "threads"), "ONNX Runtime / mgc")
    if done is not None:
        return done
    print(f"Machine: {machine()}; onnxruntime {onnxruntime.__version__}, numpy {np.__version__}.")
    with tempfile.TemporaryDirectory() as folder:
        speed(networks_of(Path(folder)), Record(options.record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
