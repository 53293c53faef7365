"""How near outputs are to a reference: the figures of `mgc run --check`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

FLOAT_TOLERANCE = 1e-3
QUANTIZED_PSNR_DB = 30.0
SLIGHT = 1e-3
"""What an error may be of the values that an output is made of, where the output itself hardly varies."""


@dataclass(frozen=True)
class OutputError:
    """How far one output is off.

    `is_float` as the reference has it; `error`: of a float output, its squared error against its own range (the
    reference's max - min; its largest magnitude where that is 0), summed over its `elements`; `largest`: the largest
    difference, NaN where NaNs do not match; `beyond`: the same, steps of the output's own codes left out. `magnitude`:
    the largest number that the reference holds, or of which it is known to be made.
    """

    is_float: bool
    elements: int
    error: float
    largest: float
    beyond: float
    magnitude: float

    @property
    def is_slight(self) -> bool:
        """Whether the error is small against the values that the output is made of, however little it varies."""
        return self.is_float and self.largest <= SLIGHT * self.magnitude


@dataclass(frozen=True)
class Comparison:
    """Figures over all outputs together.

    `psnr_db`: the errors of all float outputs, averaged over all elements; infinite where nothing differs, NaN where
    there is no float output or NaNs do not match. `cosine`: of all float outputs, one after the other. `max_abs_err`:
    over all outputs, integers and booleans included; NaN where NaNs do not match.
    """

    psnr_db: float
    cosine: float
    max_abs_err: float
    outputs: Mapping[str, OutputError]

    def ok(self, numerics: str) -> bool:
        """At most 1e-3 off in `float`; at least 30 dB in all others, or equal where no output is a float.

        `device` numerics are asked for the same as `quantized`: whether the devices are good enough for this network.
        Where the model rounds an output to codes of its own, a step of them is no error. An output whose error is
        slight against what it is made of needs no 30 dB: a discriminator that hardly varies is not wrong.
        """
        if numerics == "float":
            return all(o.beyond <= FLOAT_TOLERANCE for o in self.outputs.values())
        floats = [o for o in self.outputs.values() if o.is_float]
        if not floats:
            return all(o.beyond == 0 for o in self.outputs.values())
        return _decibels([o for o in floats if not o.is_slight]) >= QUANTIZED_PSNR_DB

    def slight(self) -> list[str]:
        """The outputs that are right only because their errors are slight against what they are made of."""
        return [n for n, o in self.outputs.items() if o.is_slight and not _decibels([o]) >= QUANTIZED_PSNR_DB]

    def made_of(self, magnitudes: Mapping[str, float]) -> Comparison:
        """The same, knowing the largest number that each output is made of."""
        known = {n: replace(o, magnitude=max(o.magnitude, magnitudes.get(n, 0.0))) for n, o in self.outputs.items()}
        return replace(self, outputs=known)

    def to_json_dict(self, numerics: str) -> dict[str, Any]:
        """The figures under their names; JSON has no infinity and no NaN, null stands for both."""
        figures = {"psnr_db": self.psnr_db, "cosine": self.cosine, "max_abs_err": self.max_abs_err}
        finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        return {**finite, "ok": self.ok(numerics)}


def misshapen(outputs: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    """How the shapes of the first output that differs do so; "" if all agree."""
    outputs, reference = _apart(outputs), _apart(reference)
    for name, wanted in reference.items():
        if name not in outputs or np.shape(outputs[name]) != np.shape(wanted):
            found = f"has shape {list(np.shape(outputs[name]))}" if name in outputs else "is missing"
            return f"output {name!r} {found}, the reference gives {list(np.shape(wanted))}"
    return ""


def compare(
    outputs: Mapping[str, Any], reference: Mapping[str, Any], steps: Mapping[str, float] | None = None
) -> Comparison:
    """Compares all outputs that the reference has. `steps`: the size of the step of outputs that the model itself
    rounds to codes. ValueError where an output is missing or has another shape.
    """
    wrong = misshapen(outputs, reference)
    if wrong:
        raise ValueError(wrong)
    outputs, reference = _apart(outputs), _apart(reference)
    pairs = {name: (np.asarray(outputs[name]), np.asarray(wanted)) for name, wanted in reference.items()}
    found = {name: _compared(a, b, (steps or {}).get(name, 0.0)) for name, (a, b) in pairs.items()}
    largest = max((o.largest for o in found.values()), default=0.0, key=lambda d: math.inf if d != d else d)
    floats = [(_real(a), _real(b)) for a, b in pairs.values() if _is_float(b)]
    if not floats:
        return Comparison(math.nan, math.nan, largest, found)
    return Comparison(_decibels([o for o in found.values() if o.is_float]), _cosine(floats), largest, found)


def psnr_db(outputs: Mapping[str, Any], reference: Mapping[str, Any], steps: Mapping[str, float]) -> float:
    """The PSNR that `compare` would give for float tensors of one shape each, and no more than that."""
    compared = [_compared(outputs[n], wanted, steps.get(n, 0.0)) for n, wanted in reference.items()]
    return _decibels(compared)


def _compared(a: np.ndarray, b: np.ndarray, step: float) -> OutputError:
    if not _is_float(b):
        largest = _largest_difference(a, b)
        return OutputError(False, b.size, 0.0, largest, _beyond(largest, step), 0.0)
    real = _real(b)
    finite = real[np.isfinite(real)]
    magnitude = float(np.max(np.abs(finite), initial=0.0))
    peak = float(np.ptp(finite)) if finite.size else 0.0
    off = np.abs(_difference(_real(a), real))
    largest = float(np.max(off, initial=0.0))
    if step:
        off = np.where(off <= step * (1 + 1e-5), 0.0, off)
    with np.errstate(over="ignore"):
        error = float(np.sum((off / (peak or magnitude or 1.0)) ** 2))
    return OutputError(True, b.size, error, largest, _beyond(largest, step), magnitude)


def _beyond(largest: float, step: float) -> float:
    return 0.0 if step and largest <= step * (1 + 1e-5) else largest


def _decibels(outputs: Sequence[OutputError]) -> float:
    """The PSNR of float outputs together."""
    error, elements = sum(o.error for o in outputs), sum(o.elements for o in outputs)
    if error == 0:
        return math.inf
    return -10 * math.log10(error / elements) if math.isfinite(error) else math.nan


def _apart(values: Mapping[str, Any]) -> dict[str, Any]:
    """Sequences as their items, under names with an index."""
    apart: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, list | tuple):
            apart.update(_apart({f"{name}[{k}]": item for k, item in enumerate(value)}))
        else:
            apart[name] = value
    return apart


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _real(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64).reshape(-1)


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - b in float64, 0 where both are the same infinity or both NaN."""
    with np.errstate(invalid="ignore"):
        return np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, a - b)


def _largest_difference(a: np.ndarray, b: np.ndarray) -> float:
    if a.dtype.kind in "OUS" or b.dtype.kind in "OUS":  # strings: equal or not
        return float(np.any(a.astype(str) != b.astype(str)))
    if a.dtype.kind in "iub" and b.dtype.kind in "iub":
        apart = (
            a.astype(object) - b.astype(object) if a.dtype.itemsize == 8 else a.astype(np.int64) - b.astype(np.int64)
        )
        return float(np.max(np.abs(apart), initial=0))
    return float(np.max(np.abs(_difference(_real(a), _real(b))), initial=0.0))


def _cosine(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else float(np.array_equal(a, b))
