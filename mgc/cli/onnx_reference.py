"""The outputs that ONNX Runtime gives for a model: the reference of `mgc run --check`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mgc.cli.errors import UserError
from mgc.cli.feeding import Feeds

_CHUNK = 64  # samples in one call, where the model leaves it open: bounds the memory


def reference_outputs(model: Path, fed: Feeds, threads: int | None) -> dict[str, np.ndarray]:
    """Runs the model on the same inputs and returns its outputs under their names.

    A model whose batch is fixed runs as often as needed.
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
    if set(wanted) != set(fed.arrays):
        raise UserError(
            f"--check {model} is not the model of this program: its inputs are {', '.join(wanted) or 'none'}, the "
            f"program's {', '.join(fed.arrays) or 'none'}"
        )
    names = [o.name for o in session.get_outputs()]
    if not fed.batched:
        return _run(session, names, fed.arrays, model)
    size = fed.group or _fixed_batch(wanted, fed) or min(_CHUNK, fed.samples)
    return fed.joined([_run(session, names, part, model) for part in fed.parts(size)], size)


def _fixed_batch(wanted: Mapping[str, Any], fed: Feeds) -> int | None:
    """Samples in the model's own batch where the model fixes it, else None."""
    for name, info in wanted.items():
        if name in fed.batched and info.shape and isinstance(info.shape[0], int):
            return max(1, info.shape[0] // (len(fed.arrays[name]) // fed.samples))
    return None


def _run(session: Any, names: list[str], feeds: Mapping[str, np.ndarray], model: Path) -> dict[str, np.ndarray]:
    try:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))
    except Exception as error:  # as above
        raise UserError(f"--check {model}: ONNX Runtime cannot run it on these inputs: {error}") from error
