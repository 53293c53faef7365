"""From the graphs of a training program to level 2: one choice of layouts for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mgc.ir.graph import Graph
from mgc.ir.mapped import MvmPart
from mgc.ir.training import State
from mgc.passes.lowering.strided import dense_strides, merge_axes
from mgc.passes.lowering.trained.lower import lower_graph
from mgc.passes.lowering.trained.products import boxed, forget_products
from mgc.passes.lowering.trained.reading import read_operands
from mgc.passes.lowering.trained.weights import StoredWeight, StoredWeights, Survey, layouts_of
from mgc.passes.mapping.plan import HomePiece, Resident
from mgc.passes.mapping.residents import Residents
from mgc.targets.description import Target

HEADROOM = 8.0
"""A group's weights may grow to this many times the largest initial one before its cells are full."""


@dataclass(frozen=True)
class LoweredTraining:
    """Level-2 graphs, one for each given, over the same residents."""

    graphs: tuple[Graph, ...]
    residents: Residents


def lower_training(
    graphs: Sequence[Graph], states: Sequence[State], target: Target, copied: frozenset[str] = frozenset()
) -> LoweredTraining:
    """Linear ops by a parameter (or a constant) go to crossbars, their input gradients to transposed reads of the same
    cells (to a second copy where the target has none, or the parameter is among `copied`), weight gradients to the
    gradient unit in the layout of the cells, updates to the cells of all copies.

    A matrix that is more than a factor of products is in a persistent buffer, and so is all that is no weight; a kernel
    is read from its cells. The graphs stay as they are. UnsupportedError names an op that has no place on the chip.
    """
    parameters = {s.name: s for s in states if s.kind == "parameter"}
    surveys = [Survey(graph.copy(), set(parameters)) for graph in graphs]
    if read_operands(surveys):
        surveys = [Survey(survey.graph, set(parameters)) for survey in surveys]
    names: dict[str, str] = {name: name.removesuffix(".weight") for name in parameters}
    constants: dict[str, np.ndarray] = {}
    for survey in surveys:
        for value, key in survey.key_of.items():
            if value in survey.graph.constants:
                constants.setdefault(key, survey.graph.constants[value].data)
                names.setdefault(key, value.name)
    layouts = layouts_of(surveys, names, both_ways=target.training.transposed_read, copied=copied)
    residents = residents_of(states, layouts, constants, target, _limits(surveys))
    bits = target.training.master_bits
    lowered = tuple(lower_graph(survey, states, residents, layouts, bits) for survey in surveys)
    forget_products()
    return LoweredTraining(lowered, residents)


def _limits(surveys: Sequence[Survey]) -> dict[str, float]:
    """The bound that clips a parameter after each of its updates."""
    limits: dict[str, float] = {}
    for survey in surveys:
        for key, clip in survey.clipped.items():
            limits[key] = max(clip, limits.get(key, 0.0))
    return limits


def weight_scale(initial: np.ndarray, fan_in: int, bits: int, clip: float | None) -> float:
    """What one step of the cells stands for: fixed when the program is made, so there must be room to grow.

    The largest weight that fits is `HEADROOM` times the largest initial one, or 1/sqrt(fan in) if that is more; with
    clipping it is the bound, or the largest initial weight if that is more.
    """
    largest = float(np.abs(initial).max(initial=0.0))
    most = max(largest, clip) if clip is not None else HEADROOM * max(largest, float(max(fan_in, 1)) ** -0.5)
    return float(np.float32(most / ((1 << (bits - 1)) - 1)))


def residents_of(
    states: Sequence[State],
    layouts: StoredWeights,
    constants: Mapping[str, np.ndarray],
    target: Target,
    limits: Mapping[str, float],
) -> Residents:
    """Groups first, then buffers, each in the order of the states."""
    groups: list[Resident] = []
    buffers: list[Resident] = []
    weights: dict[str, tuple[str, ...]] = {}
    taken = {s.name for s in states}
    data = {s.name: s.initial for s in states}
    for key, copies in layouts.items():
        initial = np.asarray(data[key] if key in data else constants[key], np.float32)
        fan_in = max((p.rows for layout in copies for p in layout.product.parts), default=1)
        scale = weight_scale(initial, fan_in, target.training.master_bits, limits.get(key))
        found: list[str] = []
        for layout, part, cells in _parts(copies):
            name = _fresh(f"{part.name}.cells", taken)
            piece = home_piece(cells, part) if key in data else None
            held = np.ascontiguousarray(initial.reshape(-1)[cells])
            groups.append(Resident(name, held, key if key in data else "", piece, scale, part, layout.name))
            found.append(name)
        weights[key] = tuple(found)
    for state in states:
        owner = state.of or state.name
        if state.kind == "parameter" and owner in layouts:
            continue
        if state.kind == "moment" and owner in layouts:
            found = []
            for layout, part, cells in _parts(layouts[owner]):
                suffix = state.name.removeprefix(f"{owner}.")
                name = _fresh(f"{part.name}.{suffix}", taken)
                held = np.ascontiguousarray(np.asarray(state.initial, np.float32).reshape(-1)[cells])
                buffers.append(Resident(name, held, state.name, home_piece(cells, part), layer=layout.name))
                found.append(name)
            weights[state.name] = tuple(found)
            continue
        initial = np.asarray(state.initial)
        if state.kind == "counter":
            initial = np.asarray(np.rint(initial), np.int64)
        dense = dense_strides(initial.shape)
        buffers.append(Resident(state.name, initial, state.name, HomePiece(initial.shape, 0, dense, 0, dense)))
    return Residents(tuple(groups + buffers), weights)


def _parts(copies: Sequence[StoredWeight]) -> Iterator[tuple[StoredWeight, MvmPart, np.ndarray]]:
    """The parts of all copies of a weight, with their cells."""
    for layout in copies:
        for part, cells in zip(layout.product.parts, layout.cells, strict=True):
            yield layout, part, cells


def home_piece(cells: np.ndarray, part: MvmPart) -> HomePiece:
    """The strided box of a state that a group's cells hold."""
    extents, base, strides = boxed(cells, part)
    merged, (own, home) = merge_axes(extents, strides, dense_strides(extents))
    return HomePiece(tuple(merged) or (1,), base, tuple(own) or (1,), 0, tuple(home) or (1,))


def _fresh(name: str, taken: set[str]) -> str:
    base, k = name, 1
    while name in taken:
        name, k = f"{base}.{k}", k + 1
    taken.add(name)
    return name
