"""The optimizers of UPDATE as instructions name them; their normative text stands in `mgc.functions.optimizers`."""

from __future__ import annotations

import math

from mgc.functions import optimizers
from mgc.functions.optimizers import Optimizer
from mgc.isa.error import ProgramError

BY_CODE: dict[int, Optimizer] = {o.code: o for o in optimizers.OPTIMIZERS.values()}
"""Code -> optimizer."""


def optimizer(code: int, hyper: tuple[float, ...]) -> Optimizer:
    """The optimizer of a code. Raises ProgramError for an unknown one, or hyper-parameters that it does not take."""
    if code not in BY_CODE:
        known = ", ".join(f"{o.code} ({o.name})" for o in BY_CODE.values())
        raise ProgramError(f"optimizer {code} is unknown; there are {known}")
    found = BY_CODE[code]
    if len(hyper) != len(found.hyper):
        raise ProgramError(f"{found.name} takes ({', '.join(found.hyper)}), not {len(hyper)} values")
    for name, value in zip(found.hyper, hyper, strict=True):
        fine = value in (0, 1) if name == "centered" else math.isfinite(value) and value >= 0
        if not fine or (name in ("momentum", "alpha", "beta1", "beta2") and value >= 1):
            raise ProgramError(f"{found.name}: {name} is {value}, which is outside its range")
    return found
