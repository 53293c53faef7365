"""The outputs that ONNX Runtime gives for a model: the reference of `mgc run --check`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mgc.cli.errors import UserError
from mgc.cli.feeding import Feeds
from mgc.cli.precise_model import precise
from mgc.functions.onnx_model import session

_CHUNK = 64  # samples in one call, where the model leaves it open: bounds the memory


def reference_outputs(model: Path, fed: Feeds, threads: int | None) -> dict[str, np.ndarray]:
    """Runs the model on the same inputs and returns its outputs under their names.

    A model whose batch is fixed runs as often as needed.
    """
    try:
        runner: Any = session(precise(model) or str(model), threads)
    except Exception as error:  # ONNX Runtime raises classes of its own that share no base
        runner = _Evaluator(model, error)
    wanted = {i.name: i for i in runner.get_inputs()}
    if set(wanted) != set(fed.arrays):
        raise UserError(
            f"--check {model} is not the model of this program: its inputs are {', '.join(wanted) or 'none'}, the "
            f"program's {', '.join(fed.arrays) or 'none'}"
        )
    names = [o.name for o in runner.get_outputs()]
    if not fed.batched:
        return _run(runner, names, fed.arrays, model)
    size = fed.group or _fixed_batch(wanted, fed) or min(_CHUNK, fed.samples)
    return fed.join([_run(runner, names, part, model) for part in fed.parts(size)], size)


class _Evaluator:
    """ONNX's reference evaluator in the place of a session, for models that ONNX Runtime has no kernels for."""

    def __init__(self, model: Path, cause: Exception) -> None:
        import onnx
        from onnx.reference import ReferenceEvaluator

        try:
            proto = onnx.load(model)
            self._evaluator = ReferenceEvaluator(proto)
        except Exception as error:  # whatever a file that is no model makes the two raise
            raise UserError(f"--check {model}: ONNX Runtime cannot load it: {cause}") from error
        given = {i.name for i in proto.graph.initializer}
        self._inputs = [_Declared.of(i) for i in proto.graph.input if i.name not in given]
        self._outputs = [_Declared.of(o) for o in proto.graph.output]

    def get_inputs(self) -> list[_Declared]:
        return self._inputs

    def get_outputs(self) -> list[_Declared]:
        return self._outputs

    def run(self, names: list[str], feeds: Mapping[str, np.ndarray]) -> list[Any]:
        with np.errstate(all="ignore"):
            return list(self._evaluator.run(names, dict(feeds)))


@dataclass(frozen=True)
class _Declared:
    """An input or output as the model declares it: name and shape (a string for a dynamic dimension)."""

    name: str
    shape: list[int | str]

    @staticmethod
    def of(info: Any) -> _Declared:
        dims = info.type.tensor_type.shape.dim
        return _Declared(info.name, [d.dim_value if d.HasField("dim_value") else d.dim_param for d in dims])


def _fixed_batch(wanted: Mapping[str, Any], fed: Feeds) -> int | None:
    """Samples in the model's own batch where the model fixes it, else None."""
    for name, info in wanted.items():
        if name in fed.batched and info.shape and isinstance(info.shape[0], int):
            return max(1, info.shape[0] // (len(fed.arrays[name]) // fed.samples))
    return None


def _run(runner: Any, names: list[str], feeds: Mapping[str, np.ndarray], model: Path) -> dict[str, np.ndarray]:
    try:
        return dict(zip(names, runner.run(names, dict(feeds)), strict=True))
    except Exception as error:  # as above
        raise UserError(f"--check {model}: ONNX Runtime cannot run it on these inputs: {error}") from error
