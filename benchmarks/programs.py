"""What this checkout makes of every model of the repository: programs and what they compute, as one table.

    python -m benchmarks.programs -o now.json               the figures of this checkout
    python -m benchmarks.programs --compare before.json now.json

For a change that should change no program. The file runs in checkouts of other versions too: it uses the command line
alone. Outputs and trained states are hashes of their bytes in `quantized` numerics.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from models.zoo.entries import ZOO

ROOT = Path(__file__).parents[1]
COLUMNS = ("crossbars", "instructions", "makespan", "bound", "energy_j", "outputs")


def _mgc(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-c", "from mgc.cli import main; main()", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"mgc {' '.join(arguments)}\n{done.stderr}")
    return json.loads(done.stdout)


def _figures(compiled: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    schedule = compiled["schedule"]
    values = (
        compiled["crossbars"]["used"],
        compiled["instructions"],
        schedule["makespan_cycles"],
        schedule["lower_bound_cycles"],
        compiled["energy_j"],
        digest.hexdigest()[:12],
    )
    return dict(zip(COLUMNS, values, strict=True))


def measure(folder: Path, found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The figures of every model, by its name, but those that are `found` already; files go to `folder`."""
    for path in sorted((ROOT / "models").glob("*/*.onnx")):
        if path.stem in found:
            continue
        program, outputs = str(folder / f"{path.stem}.mgc"), folder / f"{path.stem}.npz"
        compiled = _mgc("compile", str(path), "--batch", "4", "-o", program)
        _mgc("run", program, "-n", "4", "--seed", "1", "-o", str(outputs))
        with np.load(outputs) as archive:
            found[path.stem] = _figures(compiled, dict(archive))
        print(path.stem, found[path.stem], file=sys.stderr, flush=True)
    for entry in ZOO:
        if f"zoo {entry.name}" in found:
            continue
        program, checkpoint = str(folder / f"{entry.name}.mgc"), folder / entry.name
        command = shlex.split(entry.compile)[1:]
        command[command.index("-o") + 1] = program
        compiled = _mgc(*command)
        train = shlex.split(entry.train)[1:]
        train[train.index("--checkpoint") + 1] = str(checkpoint)
        _mgc("train", program, *train[2:])
        from safetensors.numpy import load_file

        saved = load_file(max(checkpoint.glob("step-*.safetensors")))
        states = {k: a for k, a in saved.items() if k.startswith(("state/", "history/"))}
        found[f"zoo {entry.name}"] = _figures(compiled, states)
        print(f"zoo {entry.name}", found[f"zoo {entry.name}"], file=sys.stderr, flush=True)
    return found


def compare(before: dict[str, dict[str, Any]], now: dict[str, dict[str, Any]]) -> str:
    """The table: one figure where both agree, else "before -> now"."""
    lines = [f"| model | {' | '.join(COLUMNS)} |", f"|{'---|' * (len(COLUMNS) + 1)}"]
    for name, own in now.items():
        cells = []
        for column in COLUMNS:
            a, b = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in (before[name][column], own[column]))
            cells.append(a if a == b else f"{a} -> {b}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-o", type=Path, help="where to write the figures as JSON")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "NOW"))
    given = parser.parse_args()
    if given.compare:
        print(compare(*(json.loads(path.read_text()) for path in given.compare)))
        return
    with tempfile.TemporaryDirectory() as folder:
        known = json.loads(given.o.read_text()) if given.o and given.o.is_file() else {}
        found = measure(Path(folder), known)
    text = json.dumps(found, indent=1)
    if given.o:
        given.o.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
