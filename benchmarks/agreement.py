"""Whether both engines give the same bits on drawn networks and targets: `python -m benchmarks.agreement -n 5000`.

Of each seed a network, a target, inputs (some of them zeros of either sign, tiny, or infinite) and the way to calibrate
are drawn; both engines run it in `quantized` and `device` numerics, several samples at once, and every bit of every
output must be equal; a NaN is a NaN. `float` numerics are not defined bit by bit: tests/sim/test_fast.py compares them.
A seed that fails is printed; `--seed S -n 1` runs it alone. Exit code 1 if any does.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np

import mgc
from benchmarks import drawn
from mgc.sim import SimulationError, Simulator

BITS = ("quantized", "device")


@dataclass(frozen=True)
class Case:
    """What one seed was: how it ended, and what differed."""

    seed: int
    ops: tuple[str, ...]
    refused: str
    differences: tuple[str, ...]


def differing(found: np.ndarray, wanted: np.ndarray) -> int:
    """Elements of other bits; all NaNs are one."""
    if found.dtype != wanted.dtype or found.shape != wanted.shape:
        return max(found.size, wanted.size, 1)
    if found.dtype.kind != "f":
        return int((found != wanted).sum())
    bits = np.dtype(f"u{found.dtype.itemsize}")
    unlike = np.ascontiguousarray(found).view(bits) != np.ascontiguousarray(wanted).view(bits)
    return int((unlike & ~(np.isnan(found) & np.isnan(wanted))).sum())


def case(seed: int) -> Case:
    """Draws, compiles, runs and compares."""
    rng = np.random.default_rng(seed)
    model, target = drawn.network(rng), drawn.target(rng)
    ops = tuple(n.op_type for n in model.graph.node)
    feeds = {"x": drawn.inputs(rng, model, int(rng.integers(1, 6)))}
    samples = {"x": rng.standard_normal((4 * len(feeds["x"]), *feeds["x"].shape[1:])).astype(np.float32)}
    calibrate = "error" if rng.random() < 0.3 else "minmax"
    extra = float(rng.choice([0.0, 0.05, 0.3, 5.0])) if calibrate == "error" else None
    try:
        program = mgc.compile(model, target=target, calibrate=calibrate, calibration=samples, extra_bits=extra)
    except ValueError as error:  # the documented refusals; anything else is a fault
        return Case(seed, ops, f"{type(error).__name__}: {error}", ())
    differences: list[str] = []
    for numerics in BITS:
        results = []
        for engine in ("reference", "fast"):
            simulator = Simulator(program, engine, numerics, threads=1, seed=seed)
            try:
                results.append(simulator.run(feeds))
            except SimulationError as error:
                results.append({str(error): np.zeros(0)})
            except Exception as error:  # a fault, to be told with its seed
                results.append({f"{engine} engine: {type(error).__name__} {error}": np.zeros(0)})
        wanted, found = results
        if wanted.keys() != found.keys():
            differences.append(f"{numerics}: {', '.join(wanted)} against {', '.join(found)}")
            continue
        counts = {name: differing(np.asarray(found[name]), np.asarray(wanted[name])) for name in wanted}
        differences += [f"{numerics} {name}: {n} of {np.size(wanted[name])}" for name, n in counts.items() if n]
    return Case(seed, ops, "", tuple(differences))


def main() -> int:
    """Runs seeds and prints what differs, then what was drawn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=5000, help="networks")
    parser.add_argument("--seed", type=int, default=0, help="the first seed; the others follow")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # some numbers overflow on purpose
    ops, refused, wrong = Counter[str](), Counter[str](), 0
    for seed in range(given.seed, given.seed + given.n):
        done = case(seed)
        ops.update(done.ops)
        if done.refused:
            refused[done.refused.partition(":")[0]] += 1
        if done.differences:
            wrong += 1
            print(f"seed {seed}: {'; '.join(done.differences)} ({' '.join(done.ops)})", flush=True)
    ran = given.n - refused.total()
    print(
        f"seeds {given.seed} to {given.seed + given.n - 1}: {ran} networks ran on both engines, {wrong} differ in bits"
    )
    print(f"refused: {dict(refused) or 0}")
    print(f"{len(ops)} ops: {', '.join(f'{op} {n}' for op, n in ops.most_common())}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
