"""How compiling grows with a network: `python -m benchmarks.growth` measures, prints slopes and draws growth.svg.

Chains of equal convolutions, for inference in micro-batches and for training; each compilation in a process of its own,
CPU seconds of the compiler (imports not counted) and the process's peak memory above that after a tiny compilation.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from math import log
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.plot import Series, log_log
from mgc.isa.program import Program

LAYERS = (10, 20, 50, 100, 200)
MICRO_BATCHES = (1, 4, 16, 64)
CHANNELS, SIDE = 16, 8


def chain(layers: int, name: str, out: str, channels: int = CHANNELS) -> onnx.ModelProto:
    """x [N, 16, 8, 8] -> `layers` convolutions with BatchNorm and ReLU in between -> the last has `channels`."""
    rng = np.random.default_rng(layers)
    nodes, initializers = [], []

    def weight(key: str, array: np.ndarray) -> str:
        initializers.append(numpy_helper.from_array(array.astype(np.float32), f"{name}.{key}"))
        return f"{name}.{key}"

    x = "x" if name == "D" else "z"
    first = x
    for k in range(layers):
        width = channels if k == layers - 1 else CHANNELS
        w = rng.standard_normal((width, CHANNELS, 3, 3)) * np.sqrt(2 / (9 * CHANNELS))
        conv = f"{name}_c{k}"
        nodes.append(helper.make_node("Conv", [x, weight(f"{k}.weight", w)], [conv], name=conv, pads=[1] * 4))
        x = conv
        if k < layers - 1:
            ones = np.ones(width)
            params = [weight(f"{k}.{p}", v) for p, v in (("g", ones), ("b", 0 * ones), ("m", 0 * ones), ("v", ones))]
            nodes.append(helper.make_node("BatchNormalization", [x, *params], [f"{name}_b{k}"], name=f"{name}_b{k}"))
            nodes.append(helper.make_node("Relu", [f"{name}_b{k}"], [f"{name}_r{k}"], name=f"{name}_r{k}"))
            x = f"{name}_r{k}"
    if name == "D":
        nodes.append(helper.make_node("GlobalAveragePool", [x], [f"{name}_p"], name=f"{name}_p"))
        x = f"{name}_p"
    nodes[-1].output[0] = out
    given = helper.make_tensor_value_info(first, TensorProto.FLOAT, ["N", CHANNELS, SIDE, SIDE])
    shape = ["N", channels, *((1, 1) if name == "D" else (SIDE, SIDE))]
    made = helper.make_tensor_value_info(out, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, name, [given], [made], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _compiled(kind: str, layers: int, batch: int) -> Program:
    import mgc

    if kind == "inference":
        return mgc.compile(chain(layers, "G", "image"), batch=batch, calibrate="minmax")
    return mgc.compile_training(
        chain(layers, "G", "image"), discriminator=chain(4, "D", "score", 1), loss="bce", optimizer="adam", batch=batch
    )


def compile_one(kind: str, layers: int, batch: int) -> dict[str, float]:
    """CPU seconds, peak MiB, tasks and gap of one compilation, after a tiny one that loads all modules."""
    from ortools.sat.python import cp_model

    cp_model.CpSolver().solve(cp_model.CpModel())
    _compiled(kind, 2, 2)
    empty = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.process_time()
    program = _compiled(kind, layers, batch)
    seconds = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    schedule = program.entries[0].schedule
    tasks = int((schedule.starts >= 0).sum())
    return {"seconds": seconds, "mib": (peak - empty) / 1024, "tasks": tasks, "gap": schedule.gap}


def measured(kind: str, layers: int, batch: int) -> dict[str, float]:
    """`compile_one` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.growth", "--one", kind, str(layers), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the least-squares line through the logarithms."""
    xs, ys = [log(x) for x, _ in points], [log(max(y, 1e-9)) for _, y in points]
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True)) / sum((x - mx) ** 2 for x in xs)


def main() -> None:
    """Measures, prints tables and slopes, writes growth.svg beside this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, metavar=("KIND", "LAYERS", "BATCH"))
    parser.add_argument("--layers", type=int, nargs="*", default=LAYERS)
    parser.add_argument("--micro-batches", type=int, nargs="*", default=MICRO_BATCHES)
    given = parser.parse_args()
    if given.one:
        kind, layers, batch = given.one
        print(json.dumps(compile_one(kind, int(layers), int(batch))))
        return
    found: dict[tuple[str, int], list[tuple[int, dict[str, float]]]] = {}
    print("|kind|micro-batches|layers|tasks|CPU s|MiB|gap|\n|---|---|---|---|---|---|---|")
    for kind, batch in [("inference", m) for m in given.micro_batches] + [("training", given.micro_batches[-1])]:
        for layers in given.layers:
            one = measured(kind, layers, batch)
            found.setdefault((kind, batch), []).append((layers, one))
            row = (kind, batch, layers, int(one["tasks"]), f"{one['seconds']:.1f}", f"{one['mib']:.0f}")
            print("|" + "|".join(map(str, row)) + f"|{100 * one['gap']:.2f} %|", flush=True)
    print("\n|kind|micro-batches|slope of time|slope of memory|\n|---|---|---|---|")
    for (kind, batch), rows in found.items():
        slopes = [slope([(n, one[key]) for n, one in rows]) for key in ("seconds", "mib")]
        print(f"|{kind}|{batch}|{slopes[0]:.2f}|{slopes[1]:.2f}|")
    series = [
        Series(f"{kind}, {batch}", [(n, one[key]) for n, one in rows], key == "seconds")
        for (kind, batch), rows in found.items()
        for key in ("seconds", "mib")
    ]
    (Path(__file__).parent / "growth.svg").write_text(log_log(series, "layers", ("CPU seconds", "peak MiB")))


if __name__ == "__main__":
    main()
