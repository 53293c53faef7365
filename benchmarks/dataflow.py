"""Cycles of a training iteration under each data flow: `python -m benchmarks.dataflow`.

The table of docs/dataflow.md: DCGANs with BatchNorm, trained with Adam on the losses of the original GAN, on `liu2018`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx

import mgc
from benchmarks.networks import discriminator, generator
from mgc.passes.streaming.dataflow import DATAFLOWS
from mgc.report.views.summary import headline

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


def main() -> None:
    """Prints the tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--target", default="liu2018")
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--dataflow", choices=DATAFLOWS, action="append")
    given = parser.parse_args()
    for name in given.network or NETWORKS:
        print(f"\n{name}, batch {given.batch}, {given.target}\n")
        print("|".join(("", *HEAD, "")))
        print("|---" * len(HEAD) + "|")
        for row in rows(name, given.batch, given.target, given.dataflow or DATAFLOWS):
            print("|".join(("", *row, "")), flush=True)


if __name__ == "__main__":
    main()
