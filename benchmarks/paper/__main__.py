"""`python -m benchmarks.paper [-o docs/paper.md] [--save FILE] [--load FILE] [--only PART]...`"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.paper.baselines import load_baselines
from benchmarks.paper.cases import WORKLOADS, Result, Workload, infer, macs, on_fewest_chips, targets, train, with_keys
from benchmarks.paper.loss import loss_results
from benchmarks.paper.page import Results, page
from benchmarks.paper.peak import vgg_result
from benchmarks.paper.sensitivity import variations
from mgc.passes.streaming.dataflow import DATAFLOWS

PARTS = ("training", "inference", "budget", "dataflow", "sensitivity", "losses", "peak")
BUDGET = {"dcgan64": (1, 2), "dcgan128": (1, 4)}
"""Chips of 16,128 crossbars that DCGANs are trained on; on one, the weights of the wide one take turns."""


def _say(result: Result) -> Result:
    print(
        f"{result.mode} {result.workload} on {result.target}, {result.chips} chips: {result.images_per_s:,.0f} "
        f"images/s, {result.joules * 1e3:.3g} mJ, {result.status} gap {result.gap:.3f}, compiled in "
        f"{result.seconds:.0f} s",
        file=sys.stderr,
        flush=True,
    )
    return result


def _workload(key: str) -> Workload:
    return next(w for w in WORKLOADS if w.key == key)


def measure(only: Sequence[str], before: Results | None) -> Results:
    """Compiles the parts asked for; the others are as they were `before`."""
    chips = targets()
    kept = before or Results((), (), (), (), (), {})
    training, inference, budget, dataflow = kept.training, kept.inference, kept.budget, kept.dataflow
    sensitivity, losses, peak = kept.sensitivity, kept.losses, kept.peak
    counted = {w.key: kept.macs.get(w.key) or macs(w) for w in WORKLOADS}
    if "training" in only:
        training = tuple(_say(on_fewest_chips(w, t)) for w in WORKLOADS for t in chips.values())
    if "inference" in only:
        two = [w for w in WORKLOADS if w.key in BUDGET]
        inference = tuple(_say(infer(w, t)) for w in two for t in chips.values() if t.name.isalnum())
    if "budget" in only:
        names = ("liu2018", "isaac")
        cases = [(_workload(key), count, name) for key, counts in BUDGET.items() for name in names for count in counts]
        budget = tuple(_say(train(w, with_keys(chips[name], {"structure.chips": n}))) for w, n, name in cases)
    if "dataflow" in only:
        work, chip = _workload("dcgan64"), chips["liu2018, second copy"]
        dataflow = tuple((flow, _say(train(work, chip, flow))) for flow in DATAFLOWS)
    if "sensitivity" in only:
        found = variations(_workload("dcgan64"), chips["liu2018"])
        sensitivity = tuple((what, why, _say(result)) for what, why, result in found)
    if "losses" in only:
        losses = tuple(loss_results(_workload("dcgan64"), chips["liu2018"]))
    if "peak" in only:
        peak = (vgg_result(chips["isaac"]),)
    return Results(training, inference, budget, dataflow, sensitivity, counted, losses, peak)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compiles, then writes the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description="Write docs/paper.md.")
    parser.add_argument("-o", type=Path, default=Path(__file__).parents[2] / "docs" / "paper.md", help="the page")
    parser.add_argument("--save", type=Path, help="also write the results as JSON")
    parser.add_argument("--load", type=Path, help="begin with the results of --save")
    parser.add_argument("--only", choices=PARTS, action="append", help="compile this part only (again: several)")
    given = parser.parse_args(arguments)
    results = Results.from_json_dict(json.loads(given.load.read_text())) if given.load else None
    for part in given.only or ([] if results else PARTS):
        results = measure((part,), results)
        if given.save:  # after each part: compiling takes minutes
            given.save.write_text(json.dumps(results.to_json_dict()))
    if results is None:
        parser.error("nothing to do")
    given.o.write_text(page(results, load_baselines()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
