"""The outputs that ONNX Runtime gives for a model: the reference of `mgc run --check`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from mgc.evaluation.drawn_model import with_draws
from mgc.evaluation.errors import GivenError
from mgc.evaluation.feeding import Feeds
from mgc.evaluation.model_outputs import magnitudes, output_steps, quantises, summands, with_outputs
from mgc.evaluation.precise_model import loaded, parsed, precise
from mgc.functions.draws import KEY
from mgc.functions.onnx_model import BY_DEFINITION, session
from mgc.isa.program import Program

_CHUNK = 64  # samples in one call, where the model leaves it open: bounds the memory


class Reference:
    """A model on the inputs of a run: what ONNX Runtime gives for it, and what its file says of its outputs."""

    def __init__(self, model: Path | bytes, program: Program, fed: Feeds, threads: int | None) -> None:
        self.name = "MODEL" if isinstance(model, bytes) else str(model)
        self._model, self._fed, self._threads = model, fed, threads
        self._proto = loaded(model)
        if self._proto is not None and KEY in fed.arrays:
            self._fed = with_draws(self._proto, program, fed)

    @cached_property
    def outputs(self) -> dict[str, np.ndarray]:
        """Its outputs under their names. A model that quantises as it runs is taken as it stands: fusions would round
        elsewhere.
        """
        as_written = self._proto is not None and quantises(self._proto)
        try:
            plain = self._model if isinstance(self._model, bytes) else str(self._model)
            source = plain if self._proto is None else precise(self._proto).SerializeToString()
            runner: Any = session(source, self._threads, optimize=not as_written)
        except Exception as error:  # ONNX Runtime raises classes of its own that share no base
            runner = _Evaluator(self._proto or self._model, error)
        return self._run_all(runner)

    @cached_property
    def steps(self) -> dict[str, float]:
        """The step of each output that the model itself rounds to codes."""
        return {} if self._proto is None else output_steps(self._proto)

    @cached_property
    def magnitudes(self) -> dict[str, float]:
        """The largest number that each output is known to be made of; those of which nothing is known are left out."""
        found = [] if self._proto is None else summands(self._proto)
        tensors = dict.fromkeys(s.tensor for s in found if s.tensor)
        made = [name for name in tensors if name not in self._fed.arrays]
        parts: list[dict[str, np.ndarray]] = [{}]
        if made and self._proto is not None:
            try:
                probed = session(with_outputs(self._proto, made).SerializeToString(), self._threads)
            except Exception:  # as above; then less is known
                found = [s for s in found if s.tensor not in made]
            else:
                parts = self._run_parts(probed)
        sizes = [magnitudes(found, {**self._fed.arrays, **part}) for part in parts]
        return {name: max(size[name] for size in sizes) for name in sizes[0]}

    def declared(self, message: str) -> str:
        """The shapes that the file declares of the outputs that a message names."""
        infos = [] if self._proto is None else [_Declared.of(o) for o in self._proto.graph.output]
        return ", ".join(f"{i.name} {i.shape}" for i in infos if repr(i.name) in message) or "none"

    @cached_property
    def by_definition(self) -> dict[str, np.ndarray] | None:
        """What ONNX's reference evaluator gives, where the model has an op in which ONNX Runtime departs from it."""
        ops = set() if self._proto is None else {n.op_type for n in self._proto.graph.node}
        if not ops & {*BY_DEFINITION, "Resize", "Upsample"}:
            return None
        try:
            return self._run_all(_Evaluator(self._proto or self._model, None))
        except GivenError:
            return None

    def _run_all(self, runner: Any) -> dict[str, np.ndarray]:
        """The outputs for all samples."""
        parts = self._run_parts(runner)
        return self._fed.join(parts, self._part_size(runner)) if self._fed.batched else parts[0]

    def _part_size(self, runner: Any) -> int:
        wanted = {i.name: i for i in runner.get_inputs()}
        return self._fed.group or _fixed_batch(wanted, self._fed) or min(_CHUNK, self._fed.samples)

    def _run_parts(self, runner: Any) -> list[dict[str, np.ndarray]]:
        """The outputs, some samples at a time. A model whose batch is fixed runs as often as needed."""
        model, fed = self.name, self._fed
        wanted = {i.name: i for i in runner.get_inputs()}
        if set(wanted) != set(fed.arrays):
            raise GivenError(
                f"--check {model} is not the model of this program: its inputs are {', '.join(wanted) or 'none'}, the "
                f"program's {', '.join(fed.arrays) or 'none'}"
            )
        names = [o.name for o in runner.get_outputs()]
        if not fed.batched:
            return [_run(runner, names, fed.arrays, model)]
        return [_run(runner, names, part, model) for part in fed.parts(self._part_size(runner))]


class _Evaluator:
    """ONNX's reference evaluator in the place of a session, for models that ONNX Runtime has no kernels for."""

    def __init__(self, model: Path | bytes | ModelProto, cause: Exception | None) -> None:
        from onnx.reference import ReferenceEvaluator

        try:
            proto = model if isinstance(model, ModelProto) else parsed(model)
            self._evaluator = ReferenceEvaluator(proto)
        except Exception as error:  # whatever a file that is no model makes the two raise
            raise GivenError(f"--check: ONNX Runtime cannot load the model: {cause}") from error
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


def _run(runner: Any, names: list[str], feeds: Mapping[str, np.ndarray], model: str) -> dict[str, np.ndarray]:
    try:
        return dict(zip(names, runner.run(names, dict(feeds)), strict=True))
    except Exception as error:  # as above
        raise GivenError(f"--check {model}: ONNX Runtime cannot run it on these inputs: {error}") from error
