"""States of `device` numerics: the cells themselves and their clock, beside the states of the model.

A weight in a crossbar is told as what its conductances stand for, a real number that no integer gives back. So what
must come back to the same bits is told as well: `device/cells/G`, the conductances of group G (int16 or int32
[matrices, slices, signs, rows, cols] in units of 2^-12 levels), and `device/clock`, the runs so far.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mgc.isa.device.cells import effective_weights
from mgc.isa.device.state import Devices
from mgc.isa.optimizers import in_reals, in_steps
from mgc.isa.program import Program
from mgc.sim.engine import EngineState, SimulationError
from mgc.sim.training import check_values, read_homes, weight_scale, write_homes

PREFIX = "device/"
_CELLS, _CLOCK = f"{PREFIX}cells/", f"{PREFIX}clock"


def device_names(program: Program) -> list[str]:
    """The names of these states of a program; none for one without states."""
    return [*(f"{_CELLS}{group}" for group in _groups(program)), _CLOCK] if program.states else []


def _groups(program: Program) -> list[int]:
    return list(dict.fromkeys(p.group for s in program.states for p in s.pieces if p.group >= 0))


def read_states(program: Program, kept: EngineState, base: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every state in the model's shape, then those of the devices."""

    def reals(group: int) -> np.ndarray:
        weights = effective_weights(kept.weights[group], program.groups[group].arithmetic)
        return in_reals(weights, weight_scale(program, group))

    states = read_homes(program, kept, base, reals)
    states |= {f"{_CELLS}{group}": kept.weights[group].copy() for group in _groups(program)}
    return states | {_CLOCK: np.array(kept.clock, np.int64)}


def write_states(
    program: Program, kept: EngineState, values: Mapping[str, np.ndarray], devices: Devices
) -> EngineState:
    """What an engine is to keep so that its states have these values.

    With the states of devices the very cells come back. Without any of them the weights are new to this chip: all cells
    of their groups are written, verified, with the programming errors of `devices`. Raises SimulationError for other
    names, shapes or element types, or a weight that is not finite.
    """
    own = {name: value for name, value in values.items() if not name.startswith(PREFIX)}
    given = {name: value for name, value in values.items() if name.startswith(PREFIX)}
    check_values(program, own)
    if given and set(given) != set(device_names(program)):
        strange = sorted(set(given) ^ set(device_names(program)))[0]
        raise SimulationError(f"state {strange} is missing or unknown: states of devices go together")

    def steps(group: int, weights: np.ndarray) -> np.ndarray:
        return in_steps(weights, weight_scale(program, group), program.groups[group].arithmetic.weight_bits)

    integers = {group: devices.found(group, cells) for group, cells in kept.weights.items()}
    written = write_homes(program, EngineState(integers, kept.buffers), own, steps)
    if not given:
        cells = {group: devices.programmed(group, w, "load") for group, w in written.weights.items()}
        return EngineState(cells, written.buffers, kept.clock)
    cells = {group: _conductances(f"{_CELLS}{group}", given, kept.weights[group]) for group in kept.weights}
    return EngineState(cells, written.buffers, int(given[_CLOCK].reshape(-1)[0]))


def _conductances(name: str, given: Mapping[str, np.ndarray], known: np.ndarray) -> np.ndarray:
    value = given[name]
    if value.shape != known.shape or value.dtype != known.dtype:
        raise SimulationError(
            f"state {name} is {value.dtype}{list(value.shape)}, {known.dtype}{list(known.shape)} is expected"
        )
    return np.array(value, order="C")
