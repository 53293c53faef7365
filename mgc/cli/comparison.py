"""How near outputs are to a reference: the figures of `mgc run --check`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mgc.cli.errors import UserError

FLOAT_TOLERANCE = 1e-3
QUANTIZED_PSNR_DB = 30.0


@dataclass(frozen=True)
class Comparison:
    """Figures over all outputs together, or of one.

    `psnr_db`: each float output's squared error against its own range (the reference's max - min; its largest
    magnitude where that is 0), averaged over all elements; infinite where nothing differs, NaN where there is no float
    output or NaNs do not match. `cosine`: of all float outputs, one after the other. `max_abs_err`: over all outputs,
    integers and booleans included; NaN where NaNs do not match.
    """

    psnr_db: float
    cosine: float
    max_abs_err: float

    def ok(self, numerics: str) -> bool:
        """At most 1e-3 off in `float`; at least 30 dB in all others, or equal where no output is a float.

        `device` numerics are asked for the same as `quantized`: whether the devices are good enough for this network.
        """
        if numerics == "float":
            return self.max_abs_err <= FLOAT_TOLERANCE
        if math.isnan(self.psnr_db):
            return self.max_abs_err == 0
        return self.psnr_db >= QUANTIZED_PSNR_DB

    def to_json_dict(self, numerics: str) -> dict[str, Any]:
        """The figures under their names; JSON has no infinity and no NaN, null stands for both."""
        figures = {"psnr_db": self.psnr_db, "cosine": self.cosine, "max_abs_err": self.max_abs_err}
        finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        return {**finite, "ok": self.ok(numerics)}


def compare(outputs: Mapping[str, Any], reference: Mapping[str, Any]) -> Comparison:
    """Compares all outputs that the reference has. UserError where an output is missing or has another shape."""
    outputs, reference = _apart(outputs), _apart(reference)
    for name, wanted in reference.items():
        if name not in outputs or np.shape(outputs[name]) != np.shape(wanted):
            found = f"has shape {list(np.shape(outputs[name]))}" if name in outputs else "is missing"
            raise UserError(f"--check: output {name!r} {found}, the reference gives {list(np.shape(wanted))}")
    pairs = [(np.asarray(outputs[name]), np.asarray(wanted)) for name, wanted in reference.items()]
    largest = max((_largest_difference(a, b) for a, b in pairs), default=0.0, key=lambda d: math.inf if d != d else d)
    floats = [(_real(a), _real(b)) for a, b in pairs if _is_float(b)]
    if not floats:
        return Comparison(math.nan, math.nan, largest)
    return Comparison(_psnr(floats), _cosine(floats), largest)


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


def _psnr(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    error, elements = 0.0, 0
    for a, b in pairs:
        if not b.size:
            continue
        finite = b[np.isfinite(b)]
        peak = float(np.ptp(finite)) if finite.size else 0.0
        peak = peak or float(np.max(np.abs(finite), initial=0.0)) or 1.0
        error += float(np.sum((_difference(a, b) / peak) ** 2))
        elements += b.size
    if error == 0:
        return math.inf
    return -10 * math.log10(error / elements) if math.isfinite(error) else math.nan


def _cosine(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else float(np.array_equal(a, b))
