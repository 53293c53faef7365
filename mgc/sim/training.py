"""States under the names of the model, from and to what an engine keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mgc.isa.optimizers import in_reals, in_steps
from mgc.isa.program import Program
from mgc.isa.state import StatePiece, read_state
from mgc.sim.engine import EngineState, Numerics, SimulationError


def initial_states(program: Program) -> dict[str, np.ndarray]:
    """The states' first values, in the model's shapes."""
    return {s.name: np.array(program.tensors[s.initial], order="C") for s in program.states}


def read_states(
    program: Program, numerics: Numerics, kept: EngineState, base: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Every state in the model's shape; `base` says what entries hold that live nowhere on the chip.

    A weight in a crossbar is what its integer stands for, in `float` numerics the real weight itself. (For `device`
    numerics see `mgc.sim.device`.)
    """

    def reals(group: int) -> np.ndarray:
        weights = kept.weights[group]
        return weights if numerics == "float" else in_reals(weights, weight_scale(program, group))

    return read_homes(program, kept, base, reals)


def read_homes(
    program: Program, kept: EngineState, base: Mapping[str, np.ndarray], reals: Callable[[int], np.ndarray]
) -> dict[str, np.ndarray]:
    """Every state in the model's shape from where it lives; `reals` gives the real weights of a group."""
    known: dict[int, np.ndarray] = {}

    def home(piece: StatePiece) -> np.ndarray:
        if piece.buffer >= 0:
            return kept.buffers[program.root(piece.buffer)]
        if piece.group not in known:
            known[piece.group] = np.ascontiguousarray(reals(piece.group))
        return known[piece.group]

    return {s.name: read_state(s, base[s.name], home) for s in program.states}


def write_states(
    program: Program, numerics: Numerics, kept: EngineState, values: Mapping[str, np.ndarray]
) -> EngineState:
    """What an engine is to keep so that its states have these values; elements that no state holds are as in `kept`.

    In `quantized` numerics weights are rounded to whole steps of their group's scale: what `read_states` gave comes
    back to the same bits. Raises SimulationError for other names, shapes or element types, or a weight that is not
    finite.
    """
    check_values(program, values)

    def coded(group: int, weights: np.ndarray) -> np.ndarray:
        if numerics == "float":
            return weights
        return in_steps(weights, weight_scale(program, group), program.groups[group].arithmetic.weight_bits)

    return write_homes(program, kept, values, coded)


def write_homes(
    program: Program,
    kept: EngineState,
    values: Mapping[str, np.ndarray],
    coded: Callable[[int, np.ndarray], np.ndarray],
) -> EngineState:
    """`kept` with the values of states laid where they live, through `coded` for those in a group."""
    buffers = {root: np.array(array, order="C") for root, array in kept.buffers.items()}
    weights = {group: np.array(array, order="C") for group, array in kept.weights.items()}
    for state in program.states:
        value = values[state.name]
        in_groups = [p for p in state.pieces if p.group >= 0]
        if in_groups and not np.isfinite(value).all():
            raise SimulationError(f"state {state.name} has weights that are not finite; no cell can hold them")
        for piece in state.pieces:
            home, held = weights.get(piece.group), value
            if home is None:
                home = buffers[program.root(piece.buffer)]
            else:
                held = coded(piece.group, value)
            piece.of_home(home)[...] = piece.of_state(np.ascontiguousarray(held))
    return EngineState(weights, buffers)


def check_values(program: Program, values: Mapping[str, np.ndarray]) -> None:
    """SimulationError for names, shapes or element types that are not those of the program's states."""
    names = {s.name for s in program.states}
    for what, found in (("unknown", sorted(set(values) - names)), ("missing", sorted(names - set(values)))):
        if found:
            there = ", ".join(sorted(names)) or "none"
            raise SimulationError(f"state {found[0]} is {what}; the program's states are {there}")
    for state in program.states:
        first, value = program.tensors[state.initial], values[state.name]
        if value.shape != first.shape or value.dtype != first.dtype:
            raise SimulationError(
                f"state {state.name} is {value.dtype}{list(value.shape)}, {first.dtype}{list(first.shape)} is expected"
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
