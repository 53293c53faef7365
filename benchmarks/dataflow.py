"""Cycles of a training iteration under each data flow: `python -m benchmarks.dataflow`.

The tables of docs/dataflow.md: DCGANs with BatchNorm, trained with Adam on the losses of the original GAN, on
`liu2018`, or with `--zoo` the GANs of models/zoo by their own commands (batch 8), `parallel` and `cyclic`.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx

import mgc
from benchmarks.networks import discriminator, generator
from benchmarks.zoo import arguments_of, shell
from mgc.passes.streaming.dataflow import DATAFLOWS
from mgc.report.views.summary import headline
from models.zoo.entries import ZOO, Entry

MODELS = Path(__file__).parents[1] / "models" / "dcgan_fashion"

NETWORKS: dict[str, Callable[[], tuple[onnx.ModelProto | Path, onnx.ModelProto | Path]]] = {
    "DCGAN-32 of models/": lambda: (MODELS / "dcgan_fashion_G_ts.onnx", MODELS / "dcgan_fashion_D_ts_bn.onnx"),
    "DCGAN-64, width 64": lambda: (generator(), discriminator()),
}


def rows(name: str, batch: int, target: str, flows: Sequence[str]) -> list[tuple[str, ...]]:
    """One row a data flow: parts, tasks, cycles, bound, gap, times better than the first, status, seconds."""
    made: list[tuple[str, ...]] = []
    first = 0
    for flow in flows:
        model, other = NETWORKS[name]()
        begin = time.process_time()
        program = mgc.compile_training(
            model,
            discriminator=other,
            loss="bce",
            optimizer="adam",
            lr=2e-4,
            betas=(0.5, 0.999),
            batch=batch,
            target=target,
            dataflow=flow,
        )
        seconds = time.process_time() - begin
        schedule = program.iteration[0].schedule
        tasks = int((schedule.starts >= 0).sum())
        cycles, bound = program.iteration_cycles, program.iteration_bound
        first = first or cycles
        made.append(
            (
                flow,
                str(schedule.split),
                f"{tasks:,}",
                f"{cycles:,}",
                f"{bound:,}",
                f"{100 * (cycles / bound - 1):.2f} %",
                f"{first / cycles:.2f}",
                str(headline(program)["samples_per_s"].__round__()),
                f"{seconds:.1f}",
            )
        )
    return made


HEAD = ("data flow", "parts", "tasks", "cycles", "proven bound", "gap", "speed-up", "images/s", "compile, CPU s")


ZOO_FLOWS = ("parallel", "cyclic")
ZOO_HEAD = ("GAN", "tasks", *(f"{flow}: {what}" for flow in ZOO_FLOWS for what in ("cycles", "bound", "gap", "CPU s")))


def zoo_row(entry: Entry) -> tuple[str, ...]:
    """Tasks; cycles, bound, gap and CPU seconds of the process for each of `ZOO_FLOWS`: of the entry that trains."""
    cells = [entry.title]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "models").symlink_to(Path(__file__).parents[1] / "models")
        for flow in ZOO_FLOWS:
            before = _children()
            schedule: dict[str, Any] = shell([*arguments_of(entry.compile), "--dataflow", flow], folder)["schedule"]
            seconds = _children() - before
            cells += [f"{schedule['tasks']:,}"] if len(cells) == 1 else []
            cycles = schedule.get("interval_cycles") or schedule["makespan_cycles"]
            bound = f"{schedule['lower_bound_cycles']:,}"
            cells += [f"{cycles:,}", bound, f"{100 * schedule['gap']:.2f} %", f"{seconds:.1f}"]
    return tuple(cells)


def _children() -> float:
    """CPU seconds of the processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Prints the tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--target", default="liu2018")
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--dataflow", choices=DATAFLOWS, action="append")
    parser.add_argument("--zoo", action="store_true", help="the GANs of models/zoo instead")
    parser.add_argument("--gan", choices=[e.name for e in ZOO], action="append", help="of --zoo: only this one")
    given = parser.parse_args()
    if given.zoo:
        print("|".join(("", *ZOO_HEAD, "")))
        print("|---" * len(ZOO_HEAD) + "|")
        for entry in ZOO:
            if entry.name in (given.gan or [e.name for e in ZOO]):
                print("|".join(("", *zoo_row(entry), "")), flush=True)
        return
    for name in given.network or NETWORKS:
        print(f"\n{name}, batch {given.batch}, {given.target}\n")
        print("|".join(("", *HEAD, "")))
        print("|---" * len(HEAD) + "|")
        for row in rows(name, given.batch, given.target, given.dataflow or tuple(DATAFLOWS)):
            print("|".join(("", *row, "")), flush=True)


if __name__ == "__main__":
    main()
