"""CPU seconds to compile GANs of many families with default calibration: `python -m benchmarks.compiling`.

Each in a process of its own, imports not counted. Chains of products and parallel branches show how time grows.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

import onnx

from benchmarks.families import FAMILIES, branches, matmul_chain
from benchmarks.growth import slope

CHAINS = (125, 250, 500, 1000)
BRANCHES = (100, 200, 400, 800)
GROWING: dict[str, Callable[[int], onnx.ModelProto]] = {"chain": matmul_chain, "branches": branches}


def cpu_seconds(model: onnx.ModelProto) -> float:
    """CPU seconds of one compilation after a tiny one that loads all modules, but for the solver, which it is too tiny
    for.
    """
    import ortools.sat.python.cp_model  # noqa: F401

    import mgc

    mgc.compile(matmul_chain(2))
    data = model.SerializeToString()
    begin = time.process_time()
    mgc.compile(data)
    return time.process_time() - begin


def _measured(*what: str) -> float:
    command = [sys.executable, "-m", "benchmarks.compiling", "--one", *what]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def main() -> None:
    """Measures and prints tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs="+", metavar="FAMILY|chain N|branches N")
    parser.add_argument("families", nargs="*", help="only these")
    given = parser.parse_args()
    if given.one:
        name, *size = given.one
        print(cpu_seconds(GROWING[name](int(size[0])) if size else FAMILIES[name]()))
        return
    print("|family|weights, M|ONNX nodes|CPU s|\n|---|---|---|---|")
    for name in given.families or FAMILIES:
        graph = FAMILIES[name]().graph
        weights = sum(onnx.numpy_helper.to_array(w).size for w in graph.initializer) / 1e6
        print(f"|{name}|{weights:.2f}|{len(graph.node)}|{_measured(name):.1f}|", flush=True)
    if given.families:
        return
    print("\n|growing|sizes|CPU s|slope|\n|---|---|---|---|")
    for name, sizes in (("chain", CHAINS), ("branches", BRANCHES)):
        found = [(n, _measured(name, str(n))) for n in sizes]
        shown = (", ".join(map(str, sizes)), ", ".join(f"{s:.1f}" for _, s in found))
        print(f"|{name}|{'|'.join(shown)}|{slope(found):.2f}|", flush=True)


if __name__ == "__main__":
    main()
