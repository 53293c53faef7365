"""The zoo that trains: its commands, run, and its table, written to docs/zoo.md.

    python -m benchmarks.zoo > docs/zoo.md

Each entry of models/zoo is compiled and trained through the command line, `mgc train --export` included, on the batches
that PyTorch trained on (models/zoo/recorded).
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from models.zoo.entries import FOLDER, ITERATIONS, ZOO, Entry

ROOT = FOLDER.parents[1]
Run = Callable[[list[str]], dict[str, Any]]
"""Runs `mgc ARGUMENTS --json` and gives its object; raises if it fails."""

INTRODUCTION = """\
# The zoo that trains

Small GANs of the kinds that people train, from `models/zoo` (16x16 images, made by `python -m models.zoo.make`), each
by three commands in the repository's root: pairs of networks that are composed, and steps of training scripts
(`models/zoo/scripts.py`, `translations.py`), exported as they stand. Measured by `python -m benchmarks.zoo >
docs/zoo.md`, batch 8, on the target `liu2018`.
"""

LEGEND = """
- *losses*: what fuse-loss made of each loss: kind and branches ([losses](losses.md)); "+ rest" where a part stays in
  the graph: a gradient penalty, L1 terms.
- *crossbars*: of 16,128; where weights leave room, groups are replicated.
- *schedule*: status of the entry that trains all networks, and the gap between its makespan and the proven bound.
- *follows*: the largest deviation from PyTorch in float64 over 4 iterations in `float` numerics: each loss relative to
  itself, weights and running statistics after the fourth relative to the largest entry of their tensor.
- *float32*: how far PyTorch in float32 is from that, for scripts. Where it is far, a gradient is zero but for rounding
  (a kernel before a normalisation that takes out what it adds), and Adam makes steps of its noise.
- *quantized*: the cosine between the change of all parameters over these iterations in `quantized` numerics and in
  PyTorch. Adam's and RMSProp's first steps are as long for a weight of no matter as for any other, so they show more of
  the rounding than SGD with momentum does.

## Commands
"""


@dataclass(frozen=True)
class Measured:
    """One row of the table."""

    compiled: dict[str, Any]
    deviation: float
    cosine: float
    float32: float = 0.0
    """How far PyTorch itself is from its float64 in float32; 0 where that was not recorded."""


def shell(arguments: list[str], folder: Path) -> dict[str, Any]:
    """`mgc ARGUMENTS --json` in a process of its own."""
    command = [sys.executable, "-m", "mgc", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(arguments)}: {done.stderr}")
    return json.loads(done.stdout)


def arguments_of(command: str) -> list[str]:
    """What comes after `mgc`."""
    return shlex.split(command)[1:]


def measure(entry: Entry, folder: Path, run: Run) -> Measured:
    """Compiles an entry in `folder`, which sees models/, and trains it as it was recorded, in both numerics."""
    compiled = run(arguments_of(entry.compile))
    with np.load(FOLDER / "recorded" / f"{entry.name}.npz") as archive:
        recorded = dict(archive)
    inputs: list[str] = []
    for key, array in recorded.items():
        if key.startswith("data/"):
            name = key.removeprefix("data/")
            np.save(folder / f"{entry.name}-{name}.npy", array)
            inputs += ["--input", f"{name}={folder / f'{entry.name}-{name}.npy'}"]
    deviation, cosine = 0.0, 0.0
    for numerics in ("float", "quantized"):
        out = folder / f"{entry.name}-{numerics}"
        exported_to = f"{out}.onnx" if entry.scripted else str(out)
        options = ["--steps", str(ITERATIONS), "--numerics", numerics, "--export", exported_to]
        history = run(["train", f"{entry.name}.mgc", *inputs, *options])["history"]
        after = exported_step(out) if entry.scripted else exported(out)
        if numerics == "float":
            deviation = deviation_of(history, after, recorded)
        else:
            cosine = cosine_of(initial(entry), after, recorded)
    return Measured(compiled, deviation, cosine, float(recorded.get("float32", 0.0)))


def exported(folder: Path) -> dict[str, np.ndarray]:
    """The initializers of `mgc train --export FOLDER` by their names in PyTorch."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob("*.onnx")):
        found |= named(path, path.stem)
    return found


def exported_step(path: Path) -> dict[str, np.ndarray]:
    """The initializers of `mgc train --export FILE.onnx`, and the averages beside them as GROUP.ema.NAME."""
    averages = path.with_name(f"{path.name}.ema.onnx")
    found = named(averages, "") if averages.exists() else {}
    group = {n: n.partition(".") for n in found}
    return named(path.with_name(f"{path.name}.onnx"), "") | {f"{g}.ema.{n}": found[n] for n, (g, _, _) in group.items()}


def initial(entry: Entry) -> dict[str, np.ndarray]:
    """The same before training."""
    if entry.scripted:
        (network,) = entry.networks
        found = named(FOLDER / "onnx" / f"{network}.onnx", "")
        # an average begins with the weights; a vector that the exporter left out counts from nothing
        return found | {f"generator.ema.{n}": v for n, v in found.items() if n.startswith("generator.")}
    groups = ("generator", "discriminator") if len(entry.networks) == 2 else ("",)
    found: dict[str, np.ndarray] = {}
    for network, group in zip(entry.networks, groups, strict=True):
        found |= named(FOLDER / "onnx" / f"{network}.onnx", group)
    return found


def named(path: Path, group: str) -> dict[str, np.ndarray]:
    """Initializers of a file; what is not called GROUP.NAME already gets the group's name in front."""
    found: dict[str, np.ndarray] = {}
    for tensor in onnx.load(path).graph.initializer:
        full = tensor.name if not group or tensor.name.startswith(f"{group}.") else f"{group}.{tensor.name}"
        found[full] = onnx.numpy_helper.to_array(tensor)
    return found


def weights(recorded: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The recorded weights and statistics by their names in PyTorch."""
    return {k.removeprefix("weights/"): v for k, v in recorded.items() if k.startswith("weights/")}


def deviation_of(
    history: dict[str, list[float]], after: dict[str, np.ndarray], recorded: dict[str, np.ndarray]
) -> float:
    """The largest one from PyTorch: of a loss relative to itself, of a tensor relative to its largest entry."""
    worst = 0.0
    for name, values in history.items():
        right = recorded[f"losses/{name}"]
        worst = max(worst, float(np.max(np.abs(np.array(values) - right) / np.maximum(np.abs(right), 1e-9))))
    for name, right in weights(recorded).items():
        scale = float(np.max(np.abs(right)))
        worst = max(worst, float(np.max(np.abs(after[name] - right))) / scale)
    return worst


def cosine_of(before: dict[str, np.ndarray], after: dict[str, np.ndarray], recorded: dict[str, np.ndarray]) -> float:
    """Between the changes of all parameters."""
    names = [n for n in weights(recorded) if "running_" not in n and n in before]
    mine, right = (
        np.concatenate([(found[n].astype(np.float64) - before[n]).reshape(-1) for n in names])
        for found in (after, weights(recorded))
    )
    return float(mine @ right / np.sqrt((mine @ mine) * (right @ right)))


def row(entry: Entry, measured: Measured) -> str:
    """A line of the table."""
    facts = measured.compiled
    losses = "; ".join(
        f"{e['name']}: {e['kind']} x {e['branches']}{' + rest' if e.get('reason') else ''}" for e in facts["losses"]
    )
    schedule = facts["schedule"]
    cells = (
        entry.title,
        losses,
        f"{facts['crossbars']['used']:,}",
        f"{facts['instructions']:,}",
        f"{schedule['status']}, {schedule['gap']:.1%}",
        f"{measured.deviation:.0e}",
        f"{measured.float32:.0e}" if measured.float32 else "",
        f"{measured.cosine:.4f}",
    )
    return f"| {' | '.join(cells)} |"


def document(rows: dict[str, Measured]) -> str:
    """docs/zoo.md."""
    head = ("GAN", "losses", "crossbars", "instructions", "schedule", "follows", "float32", "quantized")
    lines = [INTRODUCTION, f"| {' | '.join(head)} |", "|---|---|---:|---:|---|---:|---:|---:|"]
    lines += [row(entry, rows[entry.name]) for entry in ZOO]
    lines.append(LEGEND)
    for entry in ZOO:
        lines += [f"{entry.title}:\n", "```", *entry.commands, "```\n"]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "models").symlink_to(ROOT / "models")
        rows: dict[str, Measured] = {}
        for entry in ZOO:
            rows[entry.name] = measure(entry, folder, lambda arguments: shell(arguments, folder))
            print(entry.name, file=sys.stderr, flush=True)
    sys.stdout.write(document(rows))


if __name__ == "__main__":
    main()
