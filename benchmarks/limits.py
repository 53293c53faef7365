"""What large networks and long use take: `python -m benchmarks.limits [CASE ...]` prints seconds and peak memory.

Each case is a process of its own; its peak is the resident memory that the system reports when it ends, Python and all
libraries included. Cases that compile or run many times in one process say how memory grew after the first tenth.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import onnx

from benchmarks.growth import chain
from benchmarks.networks import Builder, generator

GIBIBYTE = 1 << 30
GREAT_WIDTH = 664
"""DCGAN generator of 305 M weights."""


def translator(size: int = 512, width: int = 32, blocks: int = 4) -> onnx.ModelProto:
    """Image to image by residual blocks, as CycleGAN's generator: photo and picture [N, 3, size, size]."""
    b = Builder(0)
    x, channels = "photo", 3
    for k, n in enumerate((width, 2 * width, 4 * width)):
        stride = 1 if k == 0 else 2
        x = b.conv(x, f"down{k}", (n, channels, 3 + stride - 1, 3 + stride - 1), channels * 9, "Conv", stride, 1)
        x, channels = b.node("Relu", b.batch_norm(x, f"down{k}.norm", n)), n
    for k in range(blocks):
        y = b.conv(x, f"block{k}.0", (channels, channels, 3, 3), channels * 9, "Conv", 1, 1)
        y = b.node("Relu", b.batch_norm(y, f"block{k}.norm", channels))
        x = b.node("Add", x, b.conv(y, f"block{k}.1", (channels, channels, 3, 3), channels * 18, "Conv", 1, 1))
    for k, n in enumerate((2 * width, width)):
        x = b.conv(x, f"up{k}", (channels, n, 4, 4), channels * 4, "ConvTranspose", 2, 1)
        x, channels = b.node("Relu", b.batch_norm(x, f"up{k}.norm", n)), n
    b.node("Tanh", b.conv(x, "last", (3, channels, 3, 3), channels * 9, "Conv", 1, 1))
    return b.model("translator", "photo", ["N", 3, size, size], "picture", ["N", 3, size, size])


def _great_generator() -> str:
    """Compiles a generator of 305 M weights for 16 chips, from a file to a file, as the command does."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "G.onnx"
        subprocess.run([sys.executable, "-m", "benchmarks.limits", "--make", str(source)], check=True)
        facts = _command("compile", source, "--set", "chips=16", "-o", Path(folder) / "G.mgc", "--json")
    return f"{facts['crossbars']['used']:,} crossbars"


def _batch_of_1024() -> str:
    """Compiles the DCGAN of 64x64 images for batches of 1,024, and runs one."""
    return _compiled_and_run(generator(), 1024, 1024)


def _images_of_512() -> str:
    """Compiles an image-to-image network of 512x512 images, and runs four of them one by one."""
    return _compiled_and_run(translator(), 1, 4)


def _compiled_and_run(model: onnx.ModelProto, batch: int, samples: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "G.onnx", Path(folder) / "G.mgc"
        onnx.save(model, source)
        facts = _command("compile", source, "--batch", batch, "-o", program, "--json")
        _command("run", program, "-n", samples, "-o", Path(folder) / "out.npz", "--json")
    return f"{facts['crossbars']['used']:,} crossbars"


def _many_compilations() -> str:
    import mgc

    model = generator(4)
    return _growth(lambda: mgc.compile(model), 100)


def _many_runs() -> str:
    import numpy as np

    import mgc

    simulator = mgc.Simulator(mgc.compile(generator(4)))
    z = np.random.default_rng(0).standard_normal((1, 100, 1, 1)).astype(np.float32)
    return _growth(lambda: simulator.run({"z": z}), 1000)


def _growth(action: Callable[[], object], times: int) -> str:
    sizes = []
    for _ in range(times):
        action()
        sizes.append(_resident())
    return f"{sizes[times // 10]:.0f} MiB after {times // 10}, {sizes[-1]:.0f} MiB after {times:,}"


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def _layers(count: int) -> Callable[[], str]:
    def compiled() -> str:
        import mgc

        model = chain(count, "G", "y")
        begin = time.process_time()
        mgc.compile(model)
        return f"{time.process_time() - begin:.1f} s of CPU"

    return compiled


def _command(*words: object) -> dict:
    line = [sys.executable, "-m", "mgc", *map(str, words)]
    return json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)


CASES: dict[str, tuple[str, Callable[[], str], float]] = {
    "great-generator": ("compile a generator of 305 M weights", _great_generator, 12),
    "batch-1024": ("compile and run a DCGAN in batches of 1,024", _batch_of_1024, 4),
    "images-512": ("compile and run 512x512 images", _images_of_512, 4),
    "compilations": ("100 compilations in one process", _many_compilations, 4),
    "runs": ("1,000 runs of one simulator", _many_runs, 4),
    "layers-250": ("compile 250 convolutions with BatchNorm", _layers(250), 4),
    "layers-500": ("compile 500 of them", _layers(500), 4),
    "layers-1000": ("compile 1,000 of them", _layers(1000), 4),
}
"""What a case does, in words; the case itself; GiB that it may take."""


def main() -> None:
    """Measures the named cases, or all, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"any of {', '.join(CASES)}")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--make", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        onnx.save(generator(GREAT_WIDTH), given.make)
        return
    if given.one:
        note = CASES[given.one][1]()
        whole = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(json.dumps({"note": note, "gib": (whole << 10) / GIBIBYTE}))
        return
    if unknown := sorted(set(given.cases) - set(CASES)):
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    print("|what|found|wall s|peak, GiB|at most|\n|---|---|---|---|---|")
    for name in given.cases or CASES:
        begin = time.perf_counter()
        line = [sys.executable, "-m", "benchmarks.limits", "--one", name]
        found = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        seconds = time.perf_counter() - begin
        print(f"|{CASES[name][0]}|{found['note']}|{seconds:.0f}|{found['gib']:.1f}|{CASES[name][2]:g}|", flush=True)


if __name__ == "__main__":
    main()
