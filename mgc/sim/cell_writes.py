"""How many cells change their level when a program runs: what verified writes, which skip the others, really write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mgc.isa.crossbar import Arithmetic, CrossbarGroup
from mgc.isa.instructions import Rewrite, WriteCells
from mgc.isa.program import Program

Levels = Callable[[int, np.ndarray], np.ndarray]
"""The levels that a verified write of integer weights [matrices, rows, cols] into a group aims at: uint8 [matrices,
slices, signs, rows, cols]."""

_EMPTY = 256
"""Where a crossbar has no cell of a group (no level is so high): nothing is written there."""
_CHUNK = 64
"""Crossbars worked on at once."""


class CellWrites:
    """Counts of the writes of a program, from what its UPDATEs left: every instruction that writes cells, in order.

    It holds the level of every cell, crossbar by crossbar, so that groups that take turns on the same crossbars are
    compared with what is there. Before PROGRAM all cells are at level 0 (assumed). Of replicas, which hold the same,
    the first is kept, and counts for all; so memory is 3 bytes for each cell of the crossbars of one replica.
    """

    def __init__(self, program: Program, levels: Levels) -> None:
        self._program, self._levels = program, levels
        self._weights = {g.id: program.tensors[g.weights] for g in program.groups if g.off_chip}
        crossbars = dict.fromkeys(c for g in program.groups for c in _crossbars(g))
        place = {crossbar: n for n, crossbar in enumerate(crossbars)}
        self._places = {g.id: np.array([place[c] for c in _crossbars(g)]) for g in program.groups}
        sizes = [(g.arithmetic.rows, g.arithmetic.cols) for g in program.groups]
        shape = (len(place), max((r for r, _ in sizes), default=0), max((c for _, c in sizes), default=0))
        self._held = np.zeros(shape, np.uint8)
        self._times = np.zeros(shape, np.uint16)
        self._counts: dict[int, list[int]] = {}  # instruction -> how often it ran, cells that changed
        self._runs: dict[str, int] = {}
        self._counting = True
        for i in program.instructions:
            if isinstance(i, WriteCells):
                changed = self._written(i.group, levels(i.group, program.tensors[program.groups[i.group].weights]))
                self._count(i.id, changed)
        self._times[...] = 0
        self._counting = False

    def ran(self, name: str, updates: Mapping[int, np.ndarray], micro_batches: int) -> None:
        """Counts so many micro-batches of the entry of that name. `updates`: instruction (as the entry's own program
        numbers it) -> the integer weights that an UPDATE left, or (bool, as levels) the cells that it wrote.
        """
        program = self._program
        entry = next(e for e in program.entries if e.name == name)
        setup = sum(isinstance(i, WriteCells) for i in program.instructions[: entry.first])
        self._runs[name] = self._runs.get(name, 0) + micro_batches
        # what the bill counts is an iteration: others change what is held alone
        self._counting = entry in program.iteration
        for _ in range(micro_batches):
            for i in program.instructions[entry.first : entry.stop]:
                for group in i.writes_groups():
                    if isinstance(i, Rewrite):
                        self._count(i.id, self._written(group, self._levels(group, self._weights[group])))
                        continue
                    found = updates[i.id - entry.first + setup]
                    if group in self._weights:
                        self._weights[group] = found
                    elif found.dtype == np.bool_:
                        self._count(i.id, self._touched(group, found))
                    else:
                        self._count(i.id, self._written(group, self._levels(group, found)))

    def hold(self, weights: Mapping[int, np.ndarray]) -> None:
        """Goes on from other integer weights, which come from outside: no instruction writes them, nothing counts."""
        for group, integers in weights.items():
            if group in self._weights:
                self._weights[group] = integers
            else:
                cells = _on_crossbars(self._levels(group, integers), self._program.groups[group].arithmetic)
                where = (self._places[group], slice(cells.shape[1]), slice(cells.shape[2]))
                self._held[where] = np.where(cells != _EMPTY, cells, self._held[where])

    def to_json_dict(self) -> dict[str, Any]:
        """Counts as plain values; all replicas count. `cells`: at worst case, all of what writes address; `changed`:
        those whose level changed (in `device` numerics: that an UPDATE wrote). The PROGRAMs are in `setup`, and in no
        other sum. `most_changes`: those of the cell with most.
        """
        program = self._program
        rows: list[dict[str, Any]] = []
        for index, (times, changed) in sorted(self._counts.items()):
            i = program.instructions[index]
            (group,) = (program.groups[g] for g in i.writes_cells(program))
            rows.append(
                {
                    "instruction": index,
                    "mnemonic": i.mnemonic,
                    "group": group.name,
                    "writes": times,
                    "cells": times * group.replicas * group.cells,
                    "changed": changed,
                }
            )
        timed = [r for r in rows if program.instructions[r["instruction"]].timed]
        once = [r for r in rows if not program.instructions[r["instruction"]].timed]
        return {
            "runs": max(-(-self._runs.get(e.name, 0) // (e.repeats * e.micro_batches)) for e in program.iteration),
            **_sums(timed),
            "most_changes": int(self._times.max(initial=0)),
            "setup": _sums(once),
            "instructions": rows,
        }

    def _count(self, instruction: int, changed: int) -> None:
        if not self._counting:
            return
        times, before = self._counts.get(instruction, (0, 0))
        self._counts[instruction] = [times + 1, before + changed]

    def _written(self, group: int, levels: np.ndarray) -> int:
        """Writes levels; how many cells change."""
        cells, places = _on_crossbars(levels, self._program.groups[group].arithmetic), self._places[group]
        changed = 0
        for start in range(0, len(places), _CHUNK):
            at = places[start : start + _CHUNK]
            new = cells[np.arange(start, start + len(at)) % len(cells)]
            part = (at, slice(new.shape[1]), slice(new.shape[2]))
            held = self._held[part]
            differs = (new != held) & (new != _EMPTY)
            self._held[part] = np.where(differs, new, held)
            changed += self._worn(part, differs)
        return changed * self._copies(group)

    def _touched(self, group: int, cells: np.ndarray) -> int:
        """Counts cells that are written, whatever they hold then."""
        found = _on_crossbars(cells.astype(np.uint8), self._program.groups[group].arithmetic) == 1
        part = (self._places[group], slice(found.shape[1]), slice(found.shape[2]))
        return self._worn(part, found) * self._copies(group)

    def _worn(self, part: tuple[Any, ...], written: np.ndarray) -> int:
        if not self._counting:
            return 0
        times = self._times[part]
        if times.max(initial=0) == np.iinfo(times.dtype).max:
            self._times, times = self._times.astype(np.uint32), times.astype(np.uint32)
        self._times[part] = times + written
        return int(np.count_nonzero(written))

    def _copies(self, group: int) -> int:
        """Replicas that what is kept of a group stands for."""
        held = self._program.groups[group]
        return 1 if held.off_chip else held.replicas


def _sums(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {key: sum(row[key] for row in rows) for key in ("writes", "cells", "changed")}


def _crossbars(group: CrossbarGroup) -> tuple[int, ...]:
    """The crossbars whose cells are kept: of the first replica, of all where others write there as well."""
    crossbars = tuple(group.crossbars)
    return crossbars if group.off_chip else crossbars[: group.crossbars_per_replica]


def _on_crossbars(cells: np.ndarray, a: Arithmetic) -> np.ndarray:
    """Cells [matrices, slices, signs, rows, cols] where `CrossbarGroup` says that they lie: uint16 [crossbars of a
    replica, a.rows, a.cols], with `_EMPTY` between them.
    """
    matrices, slices, signs, rows, cols = cells.shape
    planes, width = slices * signs, a.plane_columns
    by_column = cells.transpose(0, 3, 4, 1, 2).reshape(matrices, rows, cols, planes).astype(np.uint16)
    if width:
        strips, blocks, each = -(-cols // width), a.column_blocks(1), a.planes_per_crossbar
        cut = _padded(by_column, 2, strips * width).reshape(matrices, rows, strips, width, planes)
        across = _padded(cut.swapaxes(3, 4), 3, blocks * each).reshape(matrices, rows, strips * blocks, each * width)
        across = _padded(across, 3, a.cols)
    else:
        blocks = a.column_blocks(cols)
        across = _padded(by_column.reshape(matrices, rows, cols * planes), 2, blocks * a.cols)
        across = across.reshape(matrices, rows, blocks, a.cols)
    down = -(-rows // a.rows)
    whole = _padded(across, 1, down * a.rows).reshape(matrices, down, a.rows, -1, a.cols)
    return whole.swapaxes(2, 3).reshape(-1, a.rows, a.cols)


def _padded(array: np.ndarray, axis: int, length: int) -> np.ndarray:
    """An array with `_EMPTY` at the end of an axis, up to a length."""
    missing = length - array.shape[axis]
    if not missing:
        return array
    wide = [(0, missing if k == axis else 0) for k in range(array.ndim)]
    return np.pad(array, wide, constant_values=_EMPTY)
