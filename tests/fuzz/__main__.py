"""The long run: `python tests/fuzz --minutes 30 --seed 1` tries inputs of every kind in worker processes.

Workers are guided by coverage where atheris is installed (`mgc[fuzz]`), else by a seeded generator. Each works under a
limit of memory; one that hangs or dies is replaced, and its input kept as `found-KIND-....bin` beside the corpus.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(1, str(HERE.parents[1]))

SECONDS, GIBIBYTES = 20.0, 2
_GIB = 1 << 30


class Bytes:
    """Choices of the bytes that a coverage-guided fuzzer changes; zeros where they end."""

    def __init__(self, provider) -> None:
        self._provider = provider

    def number(self, low: int, high: int) -> int:
        return self._provider.ConsumeIntInRange(low, high)

    def chunk(self, count: int) -> bytes:
        return self._provider.ConsumeBytes(count)


class Worker:
    """Tries inputs, and keeps a note of what it does for the process that watches it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.counts: dict[str, dict[str, int]] = {}
        self._noted = 0.0

    def attempt(self, kind: str, data: bytes) -> None:
        from kinds import attempt

        held = self.folder / f"{self.name}.input"  # there while the input is being tried
        held.write_bytes(f"{kind} {time.process_time()}\n".encode() + data)
        try:
            found = attempt(kind, data)
        except Exception as error:
            found = "DEFECT"
            self.keep(kind, data, f"{type(error).__name__}: {str(error)[:200]}")
        held.unlink()
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
        if most > GIBIBYTES * _GIB:
            self.keep(kind, data, f"memory: {most / _GIB:.1f} GiB")
            self.note(kind, "MEMORY", now=True)
            os._exit(3)
        self.note(kind, found or "taken")

    def note(self, kind: str, found: str, now: bool = False) -> None:
        of = self.counts.setdefault(kind, {})
        of[found] = of.get(found, 0) + 1
        if now or found == "DEFECT" or time.monotonic() - self._noted > 1:
            self._noted = time.monotonic()
            (self.folder / f"{self.name}.counts").write_text(json.dumps(self.counts))

    def keep(self, kind: str, data: bytes, why: str) -> None:
        number = len(list(self.folder.glob("found-*.bin")))
        path = self.folder / f"found-{kind}-{os.getpid()}-{number}.bin"
        path.write_bytes(data)
        print(f"{path}: {why}", flush=True)


def work(folder: Path, name: str, seed: int, minutes: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (24 * _GIB, 24 * _GIB))
    warnings.simplefilter("ignore")
    worker, end = Worker(folder, name), time.monotonic() + 60 * minutes
    try:
        import atheris
    except ImportError:
        atheris = None
    if atheris is None:
        from draws import Seeded
        from kinds import KINDS

        for number in range(1 << 62):
            kind = list(KINDS)[number % len(KINDS)]
            worker.attempt(kind, KINDS[kind].make(Seeded(f"{seed}-{number}")))
            if time.monotonic() > end:
                worker.note(kind, "taken", now=True)
                return
    with atheris.instrument_imports(include=["mgc"]):
        from kinds import KINDS

    def one(data: bytes) -> None:
        draw = Bytes(atheris.FuzzedDataProvider(data))
        kind = list(KINDS)[draw.number(0, len(KINDS) - 1)]
        worker.attempt(kind, KINDS[kind].make(draw))

    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    drawn = random.Random(seed)
    for k in range(64):
        (corpus / f"seed-{seed}-{k}").write_bytes(drawn.randbytes(drawn.randint(16, 512)))
    flags = [f"-seed={seed}", f"-max_total_time={int(60 * minutes)}", "-max_len=2048", "-len_control=0",
             f"-timeout={int(SECONDS) * 2}", "-rss_limit_mb=0", "-verbosity=0"]  # fmt: skip
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("fuzz"), help="corpus and what was found")
    parser.add_argument("--work", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.folder.mkdir(exist_ok=True)
    if given.work:
        work(given.folder, given.work, given.seed, given.minutes)
        return 0
    return watch(given)


def _hangs(path: Path, process: int) -> bool:
    """Whether a worker has computed for more than 20 s on the input it notes, or waited for ten times as long."""
    try:
        waited = time.time() - path.stat().st_mtime
        if waited <= SECONDS:
            return False
        began = float(path.read_bytes().partition(b"\n")[0].split()[1])
        ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
        return waited > 10 * SECONDS or sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") - began > SECONDS
    except (FileNotFoundError, IndexError):  # it has just ended, or gone on
        return False


def watch(given: argparse.Namespace) -> int:
    """Starts workers, ends those that hang, and says what was tried."""
    end, started, faults = time.monotonic() + 60 * given.minutes, 0, 0
    before = set(given.folder.glob("found-*.bin"))
    totals: dict[str, dict[str, int]] = {}
    running: dict[str, subprocess.Popen] = {}
    while running or time.monotonic() < end:
        left = end - time.monotonic()
        while len(running) < given.workers and left > 5:
            started += 1
            name = f"worker-{started}"
            command = [sys.executable, __file__, "--work", name, "--seed", str(given.seed + 1000 * started),
                       "--minutes", f"{left / 60}", "--folder", str(given.folder)]  # fmt: skip
            running[name] = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        for name, process in list(running.items()):
            path = given.folder / f"{name}.input"
            hangs = process.poll() is None and _hangs(path, process.pid)
            late = time.monotonic() > end + 30
            if hangs or late:
                process.kill()
                process.wait()
            if process.poll() is None:
                continue
            if path.exists() and (hangs or (process.returncode < 0 and not late)):
                faults += 1
                head, _, data = path.read_bytes().partition(b"\n")
                kept = given.folder / f"found-{head.split()[0].decode()}-{name}.bin"
                kept.write_bytes(data)
                print(f"{kept}: {'more than 20 s' if hangs else f'signal {-process.returncode}'}", flush=True)
            counts = given.folder / f"{name}.counts"
            for kind, found in (json.loads(counts.read_text()) if counts.exists() else {}).items():
                for what, number in found.items():
                    of = totals.setdefault(kind, {})
                    of[what] = of.get(what, 0) + number
            for leftover in (path, counts):
                leftover.unlink(missing_ok=True)
            del running[name]
        time.sleep(0.2)
    found = set(given.folder.glob("found-*.bin")) - before
    for kind, of in sorted(totals.items()):
        print(f"{kind}: {sum(of.values()):,} tried: {', '.join(f'{n:,} {what}' for what, n in sorted(of.items()))}")
    print(f"seed {given.seed}: {sum(sum(of.values()) for of in totals.values()):,} inputs, {len(found)} found")
    return 1 if found or faults else 0


if __name__ == "__main__":
    sys.exit(main())
