"""The outputs that ONNX Runtime gives for a model: the reference of `mgc run --check`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mgc.cli.errors import UserError

_CHUNK = 64  # samples in one call, where the model leaves it open: bounds the memory


def reference_outputs(
    model: Path, inputs: Mapping[str, np.ndarray], samples: int, batched: Mapping[str, bool], threads: int | None
) -> dict[str, np.ndarray]:
    """Runs the model on `samples` samples and returns its outputs under their names.

    `batched` tells for each input and output whether its axis 0 counts samples. A model whose batch is fixed runs as
    often as needed; its last run is filled up with copies of the last sample.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises classes of its own that share no base
        raise UserError(f"--check {model}: ONNX Runtime cannot load it: {error}") from error
    wanted = {i.name: i for i in session.get_inputs()}
    if set(wanted) != set(inputs):
        raise UserError(
            f"--check {model} is not the model of this program: its inputs are {', '.join(wanted)}, the program's "
            f"{', '.join(inputs)}"
        )
    names = [o.name for o in session.get_outputs()]
    fixed = _fixed_batch(wanted, batched)
    step = fixed or _CHUNK
    starts = range(0, samples, step) if any(batched.get(n) for n in wanted) else range(1)
    collected: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for start in starts:
        feeds = {n: _part(a[start : start + step], fixed) if batched.get(n) else a for n, a in inputs.items()}
        for name, result in zip(names, _run(session, names, feeds, model), strict=True):
            collected[name].append(np.asarray(result))
    fed = len(starts) * fixed if fixed else samples
    return {name: _joined(parts, samples, fed) if batched.get(name) else parts[-1] for name, parts in collected.items()}


def _fixed_batch(wanted: Mapping[str, Any], batched: Mapping[str, bool]) -> int | None:
    """Axis 0 of the batched inputs where the model fixes it, else None."""
    for name, info in wanted.items():
        if batched.get(name) and info.shape and isinstance(info.shape[0], int):
            return info.shape[0]
    return None


def _part(part: np.ndarray, fixed: int | None) -> np.ndarray:
    if fixed and len(part) < fixed:
        return np.concatenate([part, np.repeat(part[-1:], fixed - len(part), axis=0)])
    return part


def _joined(parts: list[np.ndarray], samples: int, fed: int) -> np.ndarray:
    """The parts one after the other, without what the samples that filled up the last run gave."""
    whole = np.concatenate(parts)
    return whole[: samples * (len(whole) // fed)]


def _run(session: Any, names: list[str], feeds: dict[str, np.ndarray], model: Path) -> list[Any]:
    try:
        return session.run(names, feeds)
    except Exception as error:  # as above
        raise UserError(f"--check {model}: ONNX Runtime cannot run it on these inputs: {error}") from error
