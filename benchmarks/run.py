"""`python -m benchmarks.run`: measures and prints the tables of `benchmarks/README.md`, in Markdown.

Speeds are ratios of images per second measured in turn in one process; compile costs and memory are whole processes.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import mgc
from benchmarks import networks
from benchmarks.measure import interleaved, machine, process

MODELS = Path(__file__).parents[1] / "models"
WEIGHT_PREFIX = "group."


def _networks(folder: Path) -> dict[str, Path]:
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


def _runtime(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _feeds(session: onnxruntime.InferenceSession, samples: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {i.name: rng.standard_normal([samples, *i.shape[1:]]).astype(np.float32) for i in session.get_inputs()}


def speed(paths: dict[str, Path]) -> None:
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
                    session = _runtime(path, threads)
                    feeds = _feeds(session, batch)
                    simulator = mgc.Simulator(program, numerics=numerics, threads=threads)
                    ratio = interleaved(
                        lambda s=simulator, f=feeds: s.run(f), lambda s=session, f=feeds: s.run(None, f)
                    )
                    row.append(str(ratio))
                print(f"| {title} | {numerics} | {batch} | {' | '.join(row)} |", flush=True)


def reference(paths: dict[str, Path]) -> None:
    """The reference engine, cell by cell, against the fast one."""
    print("\n### Fast engine over reference engine (images per second, `quantized`, 2 samples, 1 thread)\n")
    print("| network | times faster |")
    print("|---|---|")
    for title, path in paths.items():
        if "models/" not in title:
            continue
        program = mgc.compile(path, calibrate="minmax")
        feeds = _feeds(_runtime(path, 1), 2)
        fast, slow = mgc.Simulator(program, threads=1), mgc.Simulator(program, engine="reference")
        ratio = interleaved(partial(fast.run, feeds), partial(slow.run, feeds), rounds=3)
        print(f"| {title} | {ratio.median:.0f} |", flush=True)


def compilation(paths: dict[str, Path], folder: Path) -> None:
    """Whole-process cost of `mgc compile`, and what comes out."""
    print("\n### Compilation (whole process, CPU seconds of all threads) and program\n")
    print("| network | CPU s, minmax | CPU s, error | peak MiB, error | instructions | program | without weights |")
    print("|---|---|---|---|---|---|---|")
    for title, path in paths.items():
        out = folder / "program.mgc"
        costs = {
            how: process(["-m", "mgc", "compile", path, "-o", out, "--calibrate", how]) for how in ("minmax", "error")
        }
        program = mgc.Program.load(out)
        weights = sum(t.nbytes for name, t in program.tensors.items() if name.startswith(WEIGHT_PREFIX))
        size = out.stat().st_size
        print(
            f"| {title} | {costs['minmax'].cpu_seconds:.1f} | {costs['error'].cpu_seconds:.1f} "
            f"| {costs['error'].peak_mib:.0f} | {len(program.instructions)} | {size / 1e6:.1f} MB "
            f"| {(size - weights) / 1e3:.0f} kB |",
            flush=True,
        )


_RUN_ORT = (
    "import sys, numpy, onnxruntime as o; s = o.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider']);"
    "[s.run(None, {i.name: numpy.zeros([16, *i.shape[1:]], 'f') for i in s.get_inputs()}) for _ in range(16)]"
)


def memory(paths: dict[str, Path], folder: Path) -> None:
    """Peak memory of a whole process that runs 256 samples."""
    print("\n### Peak memory of a whole process that runs 256 samples, MiB\n")
    print("| network | `mgc run` | ONNX Runtime float32, batches of 16 |")
    print("|---|---|---|")
    for title, path in paths.items():
        out = folder / "program.mgc"
        mgc.compile(path, batch=16, calibrate="minmax").save(out)
        ours = process(["-m", "mgc", "run", out, "-n", "256"])
        theirs = process(["-c", _RUN_ORT, path])
        print(f"| {title} | {ours.peak_mib:.0f} | {theirs.peak_mib:.0f} |", flush=True)


def main() -> int:
    """Prints every table."""
    print(f"Machine: {machine()}; onnxruntime {onnxruntime.__version__}, numpy {np.__version__}.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = _networks(folder)
        speed(paths)
        reference(paths)
        compilation(paths, folder)
        memory(paths, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
