"""The optimizers of UPDATE as instructions name them; their normative text stands in `mgc.functions.optimizers`."""

from __future__ import annotations

import math

import numpy as np

from mgc.functions import optimizers
from mgc.functions.codes import in_reals, in_steps
from mgc.functions.optimizers import Optimizer
from mgc.isa.error import ProgramError

OPTIMIZERS: dict[int, Optimizer] = {o.code: o for o in optimizers.OPTIMIZERS.values()}
"""Code -> optimizer."""

OPTIMIZER_CODES: dict[str, int] = {o.name: o.code for o in OPTIMIZERS.values()}
"""Name -> code."""


def optimizer(code: int, hyper: tuple[float, ...]) -> Optimizer:
    """The optimizer of a code. Raises ProgramError for an unknown one, or hyper-parameters that it does not take."""
    if code not in OPTIMIZERS:
        known = ", ".join(f"{o.code} ({o.name})" for o in OPTIMIZERS.values())
        raise ProgramError(f"optimizer {code} is unknown; there are {known}")
    found = OPTIMIZERS[code]
    if len(hyper) != len(found.hyper):
        raise ProgramError(f"{found.name} takes ({', '.join(found.hyper)}), not {len(hyper)} values")
    for name, value in zip(found.hyper, hyper, strict=True):
        fine = value in (0, 1) if name == "centered" else math.isfinite(value) and value >= 0
        if not fine or (name in ("momentum", "alpha", "beta1", "beta2") and value >= 1):
            raise ProgramError(f"{found.name}: {name} is {value}, which is outside its range")
    return found


def optimize(
    code: int,
    hyper: tuple[float, ...],
    weights: np.ndarray,
    gradient: np.ndarray,
    moments: list[np.ndarray],
    step: int,
    clip: tuple[float, float],
) -> tuple[np.ndarray, list[np.ndarray]]:
    """(new weights, new moments), float32; nothing is changed in place."""
    return optimizers.optimize(OPTIMIZERS[code], hyper, weights, gradient, moments, step, clip)


__all__ = ["OPTIMIZERS", "OPTIMIZER_CODES", "in_reals", "in_steps", "optimize", "optimizer"]
