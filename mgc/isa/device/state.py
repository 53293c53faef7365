"""The devices of a machine: their model, seed and clock, and how groups are written and read."""

from __future__ import annotations

import numpy as np

from mgc.functions.codes import in_reals, in_steps
from mgc.isa.crossbar import Arithmetic, decode_weights, encode_weights
from mgc.isa.device.draws import CellDraws, Stream
from mgc.isa.device.errors import ERRORS, DeviceModel, effective_weights
from mgc.isa.device.model import Cells
from mgc.isa.device.reads import ReadNoise, Runs, planes_of, read, undisturbed
from mgc.isa.resources import Resources


class Devices:
    """What `device` numerics knows beyond the conductances themselves, which a machine holds as its cells.

    `changes`: whether the program changes its states. clock: runs of one that does, 0 before the first; else 0. run:
    the number of the micro-batch at hand, the clock in a program that changes its states. Both are the engine's to set.
    Raises ProgramError for a program whose target says nothing of its devices.
    """

    def __init__(self, program: Resources, seed: int, changes: bool) -> None:
        self.model = DeviceModel.of_target(program.target)
        self.seed = seed
        self.clock = 0
        self.run = 0
        self.ages = self.model.is_aged and not changes
        self._groups = program.groups
        self._draws = [CellDraws(seed, group.id) for group in program.groups]
        self._aged: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def cells(self, group: int) -> Cells:
        """The cells of a group."""
        return Cells(self.model, self._groups[group].arithmetic.cell_bits)

    def arithmetic(self, group: int) -> Arithmetic:
        """The arithmetic of a group."""
        return self._groups[group].arithmetic

    def noise(self, instruction: int, matrix: int, run: int | None = None) -> ReadNoise | None:
        """The noise of an instruction's reads of a matrix, in the run at hand or another."""
        if not self.model.noise_levels:
            return None
        number = self.run if run is None else run
        return ReadNoise(self.model.noise_levels, Stream.of(self.seed, "read", instruction, number, matrix))

    def sums(
        self,
        group: int,
        instruction: int,
        codes: np.ndarray,
        conductances: np.ndarray,
        signed: bool,
        runs: Runs,
        transposed: bool,
    ) -> np.ndarray:
        """What MVM reads, or `transposed` MVM_T: int64 [matrices, n, lines] for codes [matrices, n, inputs] of windows
        with the numbers `runs`.
        """
        arithmetic = self.arithmetic(group)
        planes = [planes_of(cells, arithmetic, signed, transposed) for cells in self.read(group, conductances)]
        each = enumerate(zip(codes, planes, strict=True))
        return np.stack([read(x, p, arithmetic, signed, self.noise(instruction, k), runs) for k, (x, p) in each])

    def undisturbed(
        self, group: int, conductances: np.ndarray, weights: np.ndarray, signed: bool, transposed: bool
    ) -> np.ndarray:
        """Which columns (transposed: rows) read as if cells had the very levels of integer weights, bool [matrices, N].

        Weights are [matrices, K, N], clipped to what cells hold.
        """
        arithmetic = self.arithmetic(group)
        levels = encode_weights(np.clip(weights, *arithmetic.weight_range), arithmetic)
        pairs = zip(self.read(group, conductances), levels, strict=True)
        planes = [tuple(planes_of(each, arithmetic, signed, transposed) for each in pair) for pair in pairs]
        return np.stack([undisturbed(found, aim, arithmetic, signed, self.model) for found, aim in planes])

    def programmed(self, group: int, weights: np.ndarray, purpose: str = "write", instruction: int = -1) -> np.ndarray:
        """Conductances after all cells of a group are written, verified, with integer weights."""
        levels, cells = self.aims(group, weights), self.cells(group)
        stream = self._draws[group].stream(purpose, self.clock, instruction)
        return self._lasting(group, self.model.written(levels, cells, stream))

    def found(self, group: int, conductances: np.ndarray) -> np.ndarray:
        """The integer weights, int32 [matrices, K, N], whose levels the cells are nearest to."""
        return decode_weights(self.cells(group).nearest(conductances), self.arithmetic(group))

    def real_weights(self, group: int, conductances: np.ndarray) -> np.ndarray:
        """The weights, float32, that UPDATE starts from: as `found`, with pulses as conductances stand for."""
        scale = self._groups[group].weight_scale
        if self.model.update == "write-verify":
            return in_reals(self.found(group, conductances), scale)
        return in_reals(effective_weights(conductances, self.arithmetic(group)), scale)

    def updated(
        self, group: int, conductances: np.ndarray, weights: np.ndarray, instruction: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Conductances after UPDATE's new real weights were written, as the target writes; which cells were (bool)."""
        entry, arithmetic, cells = self._groups[group], self.arithmetic(group), self.cells(group)
        draws = self._draws[group]
        if self.model.update == "write-verify":
            levels = self.aims(group, in_steps(weights, entry.weight_scale, arithmetic.weight_bits))
            fresh = self.model.written(levels, cells, draws.stream("write", self.clock, instruction))
            written = levels != cells.nearest(conductances)
            new = np.where(written, fresh, conductances)
        else:
            old = effective_weights(conductances, arithmetic)
            asked = weights.astype(np.float64) - in_reals(old, entry.weight_scale)
            change = asked / entry.weight_scale
            noise = draws.stream("pulse", self.clock, instruction)
            pulses = self.model.pulses_of_cells(conductances, change, arithmetic, cells)
            new, written = self.model.pulsed(conductances, pulses, cells, draws.stream("spread"), noise), pulses != 0
        return self._lasting(group, new), written

    def read(self, group: int, conductances: np.ndarray) -> np.ndarray:
        """Conductances as a read meets them: drifted, in a program that never writes them again."""
        if not self.ages:
            return conductances
        known = self._aged.get(group)
        if known is None or known[0] is not conductances:
            aged = self.model.aged(conductances, self.cells(group), self._draws[group])
            known = self._aged[group] = conductances, self._lasting(group, aged)
        return known[1]

    def aims(self, group: int, weights: np.ndarray) -> np.ndarray:
        """The levels that a verified write of integer weights aims at."""
        levels = encode_weights(weights, self.arithmetic(group))
        for error in ERRORS:
            error.aim(self.model, levels, self.cells(group), self._draws[group])
        return levels

    def _lasting(self, group: int, conductances: np.ndarray) -> np.ndarray:
        """The same array with what its cells are for ever."""
        return self.model.with_lasting_errors(conductances, self.cells(group), self._draws[group])
