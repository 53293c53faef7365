"""An oracle of counted writes: a chip of single cells, on which the weights that states stand for are written."""

from itertools import product

import numpy as np

from mgc.isa.instructions import Rewrite, Update, WriteCells
from mgc.sim import Simulator


class Chip:
    """(crossbar, wordline, bitline) -> level, of all replicas, written one cell at a time."""

    def __init__(self, program):
        self.program, self.cells, self.times = program, {}, {}

    def write(self, group, weights, counts=True):
        """Writes integers [matrices, rows, cols]; how many cells change."""
        g, changed = self.program.groups[group], 0
        for place, level in self.levels(g, weights):
            for replica in range(g.replicas):
                crossbar = g.crossbars[replica * g.crossbars_per_replica + place[0]]
                cell = (crossbar, *place[1:])
                if self.cells.get(cell, 0) != level:
                    self.cells[cell] = level
                    self.times[cell] = self.times.get(cell, 0) + counts
                    changed += 1
        return changed

    @staticmethod
    def levels(g, weights):
        """((crossbar of a replica, wordline, bitline), level) of every cell, as the text of groups says."""
        a, (matrices, rows, cols) = g.arithmetic, weights.shape
        planes = a.slices * a.signs
        for m, k, c in product(range(matrices), range(rows), range(cols)):
            w = int(weights[m, k, c])
            held = (max(w, 0), max(-w, 0)) if a.signs == 2 else (w + (1 << (a.weight_bits - 1)),)
            for s, sign in product(range(a.slices), range(a.signs)):
                if a.plane_columns:
                    blocks = -(-planes // (a.cols // a.plane_columns))
                    each = -(-planes // blocks)
                    strip, within = divmod(c, a.plane_columns)
                    block, plane = divmod(s * a.signs + sign, each)
                    across, bitline = strip * blocks + block, plane * a.plane_columns + within
                else:
                    across, bitline = divmod((c * a.slices + s) * a.signs + sign, a.cols)
                crossbar = (m * g.row_blocks + k // a.rows) * g.column_blocks + across
                yield (crossbar, k % a.rows, bitline), held[sign] >> (a.cell_bits * s) & ((1 << a.cell_bits) - 1)


def integers(program, states):
    """Group -> the whole steps that states stand for; elsewhere as the program says."""
    found = {g.id: np.array(program.tensors[g.weights], np.int64) for g in program.groups}
    for state in program.states:
        for piece in state.pieces:
            if piece.group >= 0:
                steps = states[state.name].astype(np.float64) / program.groups[piece.group].weight_scale
                piece.of_home(found[piece.group])[...] = piece.of_state(np.ascontiguousarray(np.rint(steps)))
    return found


def expected(program, states):
    """(instruction -> cells that changed, the most changes of a cell) from the states before each run, and at last."""
    chip, counts = Chip(program), {}
    weights = integers(program, states[0])
    for i in program.instructions:
        if isinstance(i, WriteCells):
            counts[i.id] = chip.write(i.group, weights[i.group], counts=False)
    for after in states[1:]:
        new = integers(program, after)
        for i in (i for e in program.iteration for i in program.instructions[e.first : e.stop]):
            for group in i.writes_groups():
                if isinstance(i, Update):
                    weights[group] = new[group]
                if isinstance(i, Rewrite) or not program.groups[group].off_chip:
                    counts[i.id] = counts.get(i.id, 0) + chip.write(group, weights[group])
    return counts, max(chip.times.values(), default=0)


def run(program, feeds, engine="fast", numerics="quantized", step=None, **options):
    """(counts, states before the first run and after each)."""
    simulator = Simulator(program, engine, numerics, count_writes=True, **options)
    states = [simulator.states()]
    for feed in feeds:
        simulator.run_iteration(feed) if step is None else step(simulator, feed)
        states.append(simulator.states())
    return simulator.cell_writes(), states


def by_run(simulator, feed):
    simulator.run(feed)


def assert_counted(program, counts, states):
    changed, most = expected(program, states)
    assert {row["instruction"]: row["changed"] for row in counts["instructions"]} == changed
    assert counts["most_changes"] == most
    assert counts["runs"] == len(states) - 1
    assert_sums(program, counts)


def assert_sums(program, counts):
    setup = [r for r in counts["instructions"] if r["mnemonic"] == "program"]
    timed = [r for r in counts["instructions"] if r["mnemonic"] != "program"]
    for sums, rows in ((counts, timed), (counts["setup"], setup)):
        assert all(sums[key] == sum(row[key] for row in rows) for key in ("writes", "cells", "changed"))
    assert all(0 <= row["changed"] <= row["cells"] for row in counts["instructions"])
    groups = {g.name: g for g in program.groups}
    for row in counts["instructions"]:
        group = groups[row["group"]]
        assert row["cells"] == row["writes"] * group.replicas * group.cells
