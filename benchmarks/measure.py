"""Side-by-side timing: calls interleave, so that a machine that changes speed changes both."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ratio:
    """Time of `other` over time of `ours`, round by round: above 1 we are faster."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Timing:
    """Median seconds of a call of each, and the ratio round by round."""

    ours: float
    other: float
    ratio: Ratio


def interleaved(ours: Callable[[], object], other: Callable[[], object], rounds: int = 15) -> Ratio:
    """Ratios of single calls in turn, after two calls of each that do not count."""
    return interleaved_times(ours, other, rounds).ratio


def interleaved_times(ours: Callable[[], object], other: Callable[[], object], rounds: int = 15) -> Timing:
    """Times of single calls in turn, after two calls of each that do not count."""
    for _ in range(2):
        ours()
        other()
    pairs = [(_seconds(ours), _seconds(other)) for _ in range(rounds)]
    ratios = [b / a for a, b in pairs]
    ratio = Ratio(statistics.median(ratios), min(ratios), max(ratios))
    return Timing(statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs), ratio)


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


@dataclass(frozen=True)
class ProcessCost:
    """What a whole process used: CPU seconds of all its threads, peak resident memory in MiB."""

    cpu_seconds: float
    peak_mib: float


def process(arguments: Sequence[str | Path]) -> ProcessCost:
    """Runs `python ARGUMENTS...` to its end in a process that waits for it alone. RuntimeError if it fails."""
    code = (
        "import resource, subprocess, sys;"
        "done = subprocess.run([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE);"
        "sys.stderr.buffer.write(done.stderr);"
        "u = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(u.ru_utime + u.ru_stime, u.ru_maxrss / 1024);"
        "sys.exit(done.returncode)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments))} failed:\n{done.stderr}")
    cpu, peak = map(float, done.stdout.split())
    return ProcessCost(cpu, peak)


def machine() -> str:
    """The machine in one line: processor, cores that this process may use, memory, system, Python."""
    model = "unknown processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        flags = next((line for line in info.read_text().splitlines() if line.startswith("flags")), "")
        model = lines[0] if lines else model
        model += " with AVX512-VNNI" if "avx512_vnni" in flags else " without AVX512-VNNI"
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {cores} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"


def peak_mib() -> float:
    """Peak resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
