"""assume-ranges: what stands in for calibration where a program will only ever run in `float` numerics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from mgc.passes.calibrate import Calibration, observed_values
from mgc.passes.manager import CompileState, Pass


@dataclass(frozen=True)
class AssumeRanges(Pass):
    """Every value that will be coded or looked up is taken to lie in -limit .. limit; no data is drawn, nothing runs.

    The program is exact in `float` numerics, which uses no scale; in `quantized` its scales are only a guess.
    """

    name: ClassVar[str] = "assume-ranges"
    limit: float = 8.0

    def run(self, state: CompileState) -> CompileState:
        ranges = {value.name: (-self.limit, self.limit) for value in observed_values(state.graph)}
        return replace(state, calibration=Calibration((), ranges))
