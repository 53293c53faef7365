"""The optimizers of UPDATE as instructions name them; their normative text stands in `mgc.functions.optimizers`."""

from __future__ import annotations

import math

from mgc.functions import optimizers
from mgc.functions.optimizers import AVERAGE, MORE, Optimizer
from mgc.isa.error import ProgramError

BY_CODE: dict[int, Optimizer] = {o.code: o for o in optimizers.OPTIMIZERS.values()}
"""Code -> optimizer."""


def optimizer(code: int, hyper: tuple[float, ...]) -> Optimizer:
    """The optimizer of a code. Raises ProgramError for an unknown one, or hyper-parameters that it does not take."""
    if code not in BY_CODE:
        known = ", ".join(f"{o.code} ({o.name})" for o in BY_CODE.values())
        raise ProgramError(f"optimizer {code} is unknown; there are {known}")
    found = BY_CODE[code]
    names = (*found.hyper, *MORE)
    if len(hyper) not in (len(found.hyper), len(names)):
        own, more = ", ".join(found.hyper), ", ".join(MORE)
        raise ProgramError(f"{found.name} takes ({own}), or these and ({more}), not {len(hyper)} values")
    for name, value in zip(names, hyper, strict=False):
        fine = value in (0, 1) if name == "centered" else math.isfinite(value) and (value >= 0 or name == "decay_from")
        if not fine or (name in ("momentum", "alpha", "beta1", "beta2", "average") and value >= 1):
            raise ProgramError(f"{found.name}: {name} is {value}, which is outside its range")
    _, (_, first, last, runs, _) = found.parted(hyper)
    if (last and not first < last) or runs != int(runs) or runs < 1:
        raise ProgramError(f"{found.name}: rates cannot decay from {first} until {last} in {runs} runs an iteration")
    return found


__all__ = ["AVERAGE", "BY_CODE", "optimizer"]
