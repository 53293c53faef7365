"""States under the names of the model, from and to what an engine keeps.

A weight in a crossbar is what it stands for: its integer times the weight scale of its group, in `float` numerics the
real weight itself. In `device` numerics it is what its conductances stand for, a real number that no integer gives
back. So what must come back to the same bits is a state there as well: `device/cells/G`, the conductances of group G
(int16 or int32 [matrices, slices, signs, rows, cols] in units of 2^-12 levels), and `device/clock`, the runs so far.
Weights that lie off-chip are integers there too.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mgc.functions.codes import in_reals, in_steps
from mgc.isa.device.errors import effective_weights
from mgc.isa.device.state import Devices
from mgc.isa.program import Program
from mgc.isa.state import StatePiece, read_state
from mgc.sim.engine import EngineState, Numerics, SimulationError

_DEVICE = "device/"
_CELLS, _CLOCK = f"{_DEVICE}cells/", f"{_DEVICE}clock"


def state_groups(program: Program) -> list[int]:
    """The crossbar groups that states live in."""
    return list(dict.fromkeys(p.group for s in program.states for p in s.pieces if p.group >= 0))


def _groups_in_cells(program: Program) -> list[int]:
    """Those whose weights last in cells."""
    return [group for group in state_groups(program) if not program.groups[group].off_chip]


def device_names(program: Program) -> list[str]:
    """The names of the states that only `device` numerics have; none for a program without states."""
    return [*(f"{_CELLS}{group}" for group in _groups_in_cells(program)), _CLOCK] if program.states else []


def initial_states(program: Program) -> dict[str, np.ndarray]:
    """The states' first values, in the model's shapes."""
    return {s.name: np.array(program.tensors[s.initial], order="C") for s in program.states}


def read_states(
    program: Program, numerics: Numerics, kept: EngineState, base: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Every state in the model's shape, then those of devices; `base` says what entries hold that live nowhere on the
    chip.
    """
    known: dict[int, np.ndarray] = {}

    def home(piece: StatePiece) -> np.ndarray:
        if piece.buffer >= 0:
            return kept.buffers[program.root(piece.buffer)]
        if piece.group not in known:
            known[piece.group] = np.ascontiguousarray(_reals(program, numerics, piece.group, kept.weights[piece.group]))
        return known[piece.group]

    states = {s.name: read_state(s, base[s.name], home) for s in program.states}
    if numerics == "device" and states:
        states |= {f"{_CELLS}{group}": kept.weights[group].copy() for group in _groups_in_cells(program)}
        states[_CLOCK] = np.array(kept.clock, np.int64)
    return states


def _reals(program: Program, numerics: Numerics, group: int, held: np.ndarray) -> np.ndarray:
    """The real weights of a group."""
    if numerics == "float":
        return held
    if numerics == "device" and not program.groups[group].off_chip:
        held = effective_weights(held, program.groups[group].arithmetic)
    return in_reals(held, weight_scale(program, group))


def write_states(
    program: Program,
    numerics: Numerics,
    kept: EngineState,
    values: Mapping[str, np.ndarray],
    devices: Devices | None = None,
) -> EngineState:
    """What an engine is to keep so that its states have these values; elements that no state holds are as in `kept`.

    In `quantized` numerics weights are rounded to whole steps of their group's scale: what `read_states` gave comes
    back to the same bits. With the states of `devices` the very cells come back; without any of them the weights are
    new to this chip: all cells of their groups are written, verified, with errors of their own. Raises SimulationError
    for other names, shapes or element types, or a weight that is not finite.
    """
    cells = {name: value for name, value in values.items() if devices is not None and name.startswith(_DEVICE)}
    check_values(program, {name: value for name, value in values.items() if name not in cells})
    if cells and set(cells) != set(device_names(program)):
        strange = sorted(set(cells) ^ set(device_names(program)))[0]
        raise SimulationError(f"state {strange} is missing or unknown: states of devices go together")
    in_cells = _groups_in_cells(program) if devices is not None else []
    weights = {
        g: devices.found(g, held) if devices is not None and g in in_cells else held for g, held in kept.weights.items()
    }
    weights = {group: np.array(array, order="C") for group, array in weights.items()}
    buffers = {root: np.array(array, order="C") for root, array in kept.buffers.items()}
    for state in program.states:
        value = values[state.name]
        if any(p.group >= 0 for p in state.pieces) and not np.isfinite(value).all():
            raise SimulationError(f"state {state.name} has weights that are not finite; no cell can hold them")
        for piece in state.pieces:
            home, held = weights.get(piece.group), value
            if home is None:
                home = buffers[program.root(piece.buffer)]
            elif numerics != "float":
                group = program.groups[piece.group]
                held = in_steps(value, weight_scale(program, piece.group), group.arithmetic.weight_bits)
            piece.of_home(home)[...] = piece.of_state(np.ascontiguousarray(held))
    if devices is None:
        return EngineState(weights, buffers)
    if not cells:
        made = {g: devices.programmed(g, weights[g], "load") for g in in_cells}
        return EngineState(weights | made, buffers, kept.clock)
    given = {g: _conductances(f"{_CELLS}{g}", cells, kept.weights[g]) for g in in_cells}
    return EngineState(weights | given, buffers, int(cells[_CLOCK].reshape(-1)[0]))


def _conductances(name: str, given: Mapping[str, np.ndarray], known: np.ndarray) -> np.ndarray:
    _check_value(name, given[name], known)
    return np.array(given[name], order="C")


def check_values(program: Program, values: Mapping[str, np.ndarray]) -> None:
    """SimulationError for names, shapes or element types that are not those of the program's states."""
    names = {s.name for s in program.states}
    for what, found in (("unknown", sorted(set(values) - names)), ("missing", sorted(names - set(values)))):
        if found:
            there = ", ".join(sorted(names)) or "none"
            raise SimulationError(f"state {found[0]} is {what}; the program's states are {there}")
    for state in program.states:
        _check_value(state.name, values[state.name], program.tensors[state.initial])


def _check_value(name: str, value: np.ndarray, known: np.ndarray) -> None:
    if value.shape != known.shape or value.dtype != known.dtype:
        raise SimulationError(
            f"state {name} is {value.dtype}{list(value.shape)}, {known.dtype}{list(known.shape)} is expected"
        )


def weight_scale(program: Program, group: int) -> float:
    """What a step of a group's integers is worth. SimulationError for a group that has none."""
    entry = program.groups[group]
    if not entry.weight_scale:
        raise SimulationError(
            f"group {entry.name} has no weight scale (its program was compiled for inference only), so its weights "
            "have no real values in quantized numerics; use numerics float, or compile it for training"
        )
    return entry.weight_scale
