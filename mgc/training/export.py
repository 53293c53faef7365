"""Trained weights back in the models they came from: ONNX files that run without mgc."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from mgc.isa.optimizers import AVERAGE
from mgc.isa.program import Program
from mgc.training.errors import TrainingError

_UNSAFE = frozenset('/\\:*?"<>|\0')


@dataclass(frozen=True)
class ExportPlan:
    """Which files an export will make: checked before training begins."""

    path: Path
    entries: Mapping[Path, Mapping[str, Any]]


def plan_export(program: Program, path: Path) -> ExportPlan:
    """What `--export PATH` means for a program: one file if it ends in .onnx, else a folder with one a network.

    Raises TrainingError where the program holds no models for it.
    """
    export = program.meta.get("export")
    if not isinstance(export, Mapping):
        raise TrainingError(f"--export {path}: the program does not hold the models it was made from; compile it anew")
    if path.suffix == ".onnx":
        if not export.get("whole"):
            raise TrainingError(
                f"--export {path}: the networks cannot be in one file (their operator sets differ): name a folder"
            )
        return ExportPlan(path, {path: export["whole"], **_averages(program, path, export["whole"])})
    networks = export.get("networks") or {}
    if not networks:
        raise TrainingError(f"--export {path}: no network can be told apart in the model: name a file, NAME.onnx")
    entries: dict[Path, Mapping[str, Any]] = {}
    for name, entry in networks.items():
        file = path / f"{_file_name(name)}.onnx"
        entries |= {file: entry, **_averages(program, file, entry)}
    return ExportPlan(path, entries)


def _averages(program: Program, path: Path, entry: Mapping[str, Any]) -> dict[Path, Mapping[str, Any]]:
    """NAME.ema.onnx beside NAME.onnx, with the moving averages of weights; nothing where the model has none."""
    found = averages_of(program)
    states = {tensor: found.get(state, state) for tensor, state in entry["states"].items()}
    return {} if states == entry["states"] else {path.with_suffix(".ema.onnx"): {**entry, "states": states}}


def averages_of(program: Program) -> dict[str, str]:
    """The states that are moving averages, by the parameters they are of."""
    names = {s.name for s in program.states}
    return {name: f"{name}.{AVERAGE}" for name in names if f"{name}.{AVERAGE}" in names}


def _file_name(network: str) -> str:
    return "".join("_" if c in _UNSAFE else c for c in network) or "network"


def trained_models(
    program: Program, plan: ExportPlan, weights: Mapping[str, np.ndarray]
) -> Iterator[tuple[Path, bytes]]:
    """(file, its bytes) for each file of a plan, with the weights in place."""
    for path, entry in plan.entries.items():
        template = np.asarray(program.tensors[entry["tensor"]]).tobytes()
        yield path, filled(template, entry["states"], weights).SerializeToString()


def filled(template: bytes, states: Mapping[str, str], weights: Mapping[str, np.ndarray]) -> ModelProto:
    """A model with the weights in the initializers that `states` names (initializer -> state), in their own types."""
    model = onnx.load_from_string(template)
    for tensor in model.graph.initializer:
        if tensor.name in states:
            fill(tensor, weights[states[tensor.name]])
    return model


def fill(tensor: TensorProto, value: np.ndarray) -> None:
    """Puts values into an initializer, which keeps its name, shape and element type."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    with np.errstate(over="ignore"):  # what float16 cannot hold becomes infinity there
        array = np.ascontiguousarray(value.astype(dtype)).reshape(tuple(tensor.dims))
    for field in ("float_data", "double_data", "int32_data"):
        tensor.ClearField(field)
    tensor.raw_data = array.tobytes()


def check_writable(plan: ExportPlan) -> None:
    """TrainingError, before any work, for a place that cannot be written."""
    folder = plan.path if plan.path not in plan.entries else plan.path.parent
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"--export {plan.path} is a file: name a folder, or a file that ends in .onnx")
    above = folder
    while not above.exists() and above != above.parent:
        above = above.parent
    if not os.access(above, os.W_OK):
        raise TrainingError(f"--export {plan.path}: the folder {above} cannot be written to")
    for path in plan.entries:
        if path.is_dir():
            raise TrainingError(f"--export {path} is a folder: name another file")
