"""`python -m benchmarks.run`: measures and prints the tables of `benchmarks/README.md`, in Markdown.

Speeds are ratios of images per second measured in turn in one process; compile costs and memory are whole processes.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime

import mgc
from benchmarks.inference import feeds_of, networks_of, runtime, speed
from benchmarks.measure import interleaved, machine, process
from benchmarks.runs import Record

WEIGHT_PREFIX = "group."


def reference(paths: dict[str, Path]) -> None:
    """The reference engine, cell by cell, against the fast one."""
    print("\n### Fast engine over reference engine (images per second, `quantized`, 2 samples, 1 thread)\n")
    print("| network | times faster |")
    print("|---|---|")
    for title, path in paths.items():
        if "models/" not in title:
            continue
        program = mgc.compile(path, calibrate="minmax")
        feeds = feeds_of(runtime(path, 1), 2)
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
        paths = networks_of(folder)
        speed(paths, Record(None))
        reference(paths)
        compilation(paths, folder)
        memory(paths, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
