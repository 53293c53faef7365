"""The fast engine beside ONNX Runtime's float32 on GANs of many families: `python -m benchmarks.running`.

One thread, both in one process, runs alternating, the least CPU time of each; batch 1 and 4 (4: four runs of those that
are exported for one sample). Times are of the outputs for given inputs; compiling and loading are not counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping

import numpy as np
import onnx
import onnxruntime

import mgc
from benchmarks.families import FAMILIES
from benchmarks.networks import generator

NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {"dcgan": generator, **FAMILIES}
Feeds = Mapping[str, np.ndarray]


def least_seconds(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least CPU time of each of some functions, called in turn."""
    found = dict.fromkeys(runs, float("inf"))
    for run in runs.values():
        run()  # makes sessions
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            found[name] = min(found[name], time.process_time() - begin)
    return found


def measured(name: str, batch: int, rounds: int, extra_bits: float | None) -> dict[str, float]:
    """CPU seconds of ONNX Runtime and of the fast engine in both numerics; `extra_bits` is the option of `compile`."""
    model = NETWORKS[name]()
    program = mgc.compile(model, extra_bits=extra_bits)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    open_batch = all(isinstance(i.shape[0], str) for i in session.get_inputs())
    times = 1 if open_batch else batch

    def drawn() -> dict[str, np.ndarray]:
        shapes = {i.name: [batch if isinstance(d, str) else d for d in i.shape] for i in session.get_inputs()}
        return {n: rng.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}

    feeds = [drawn() for _ in range(times)]
    runs: dict[str, Callable[[], object]] = {"onnxruntime": lambda: [session.run(None, dict(f)) for f in feeds]}
    for numerics in ("float", "quantized"):
        simulator = mgc.Simulator(program, numerics=numerics, threads=1)
        runs[numerics] = lambda simulator=simulator: [simulator.run(f) for f in feeds]
    return least_seconds(runs, rounds)


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(NETWORKS)}; all but rrdb-23 if none is named")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, nargs="*", default=(1, 4))
    parser.add_argument("--extra-bits", type=float, help="as of mgc compile; 0: codes of 8 bits only")
    given = parser.parse_args()
    print("|network|batch|ONNX Runtime, ms|float / it|quantized / it|\n|---|---|---|---|---|")
    for name in given.networks or [n for n in NETWORKS if n != "rrdb-23"]:
        for batch in given.batch:
            t = measured(name, batch, given.rounds, given.extra_bits)
            ratios = [t[n] / t["onnxruntime"] for n in ("float", "quantized")]
            print(f"|{name}|{batch}|{1e3 * t['onnxruntime']:.1f}|{ratios[0]:.1f}|{ratios[1]:.1f}|", flush=True)


if __name__ == "__main__":
    main()
