"""The machine that instructions run on: buffers of one micro-batch, cells, constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mgc.functions.codes import in_reals, in_steps
from mgc.isa.crossbar import decode_weights, encode_weights
from mgc.isa.device.state import Devices
from mgc.isa.dtypes import numpy_dtype
from mgc.isa.error import ExecutionError
from mgc.isa.functions import cast
from mgc.isa.memory import Buffer, Ref
from mgc.isa.resources import Resources

HostRunner = Callable[[int, Sequence[Any]], Sequence[Any]]
"""Runs host segment number n on its arguments."""

Updates = dict[int, np.ndarray]
"""Instruction -> what an UPDATE of a group left: integers [matrices, rows, cols]. In `device` numerics, of a group
whose weights last in cells, which cells it wrote: bool [matrices, slices, signs, rows, cols].
"""

IDEAL_DTYPE = np.dtype(np.float32)
"""What code and accumulator buffers hold in `float` numerics."""


class Machine:
    """State of one program between instructions, for one micro-batch at a time.

    `ideal` chooses `float` numerics: cells hold real weights, code and accumulator buffers hold float32. A buffer reads
    as zero until something is written. The program must have passed `Program.verify`: addresses are not checked again.
    `cells` maps a group to what PROGRAM wrote: levels uint8 [matrices, slices, signs, rows, cols], or in `float`
    numerics real weights [matrices, rows, cols], in `device` numerics conductances in the shape of levels; these have
    `devices`, which says how they are written and read. `inputs` and `outputs` hold one micro-batch under port numbers.
    `updates`, if given, is told what UPDATEs write.
    `persistent` holds the persistent buffers by root, at first what the program's states say.
    """

    def __init__(
        self,
        program: Resources,
        ideal: bool,
        host: HostRunner,
        devices: Devices | None = None,
        updates: Updates | None = None,
    ) -> None:
        self.program = program
        self.ideal = ideal
        self.devices = devices
        self.updates = updates
        self.host = host
        self.cells: dict[int, np.ndarray] = {}
        self.off_chip: dict[int, np.ndarray] = {g.id: self.initial_weights(g.id) for g in program.groups if g.off_chip}
        self.inputs: dict[int, Any] = {}
        self.outputs: dict[int, Any] = {}
        self._data: dict[int, Any] = {}
        self.persistent: dict[int, np.ndarray] = {
            b.id: np.zeros(b.shape, self.dtype(b)) for b in program.buffers if b.persistent and b.alias_of < 0
        }
        for state in program.states:
            first = np.ascontiguousarray(program.tensors[state.initial])
            for piece in state.pieces:
                if piece.buffer >= 0:
                    piece.of_home(self.persistent[program.root(piece.buffer)])[...] = piece.of_state(first)

    def begin(self, inputs: dict[int, Any]) -> None:
        """Starts a micro-batch: all buffers are zero but the persistent ones."""
        self.inputs = inputs
        self.outputs = {}
        self._data = {}

    def kept(self) -> tuple[dict[int, np.ndarray], ...]:
        """What lasts, as it is: instructions replace these arrays, never change them."""
        return dict(self.cells), dict(self.off_chip), dict(self.persistent)

    def keep(self, kept: tuple[dict[int, np.ndarray], ...]) -> None:
        """Goes back to what `kept` gave."""
        self.cells, self.off_chip, self.persistent = map(dict, kept)

    def initial_weights(self, group: int) -> np.ndarray:
        """The weights [matrices, rows, cols] that the program has for a group: integers, in `float` numerics real."""
        held = self.program.groups[group]
        return self.program.tensors[held.real_weights if self.ideal else held.weights]

    def dtype(self, buffer: Buffer) -> np.dtype:
        """Element type of a buffer in this machine's numerics."""
        return IDEAL_DTYPE if self.ideal and buffer.kind in ("code", "acc") else numpy_dtype(buffer.dtype)

    @property
    def sum_dtype(self) -> np.dtype:
        """Element type of crossbar sums in this machine's numerics."""
        return IDEAL_DTYPE if self.ideal else np.dtype(np.int64)

    def read(self, ref: Ref, registers: Sequence[np.ndarray] = ()) -> Any:
        """An operand: a buffer (as C-contiguous array, or an opaque object), a constant or a register."""
        if ref.space == 0:
            return self.buffer(ref.index)
        if ref.space == 1:
            return self.program.tensors[self.program.constants[ref.index].tensor]
        return registers[ref.index]

    def _store(self, root: int) -> dict[int, Any]:
        """Where a root buffer's array is."""
        return self.persistent if self.program.buffers[root].persistent else self._data

    def buffer(self, index: int) -> Any:
        """What a buffer holds, in its shape; not to be changed."""
        buffer = self.program.buffers[index]
        root = self.program.root(index)
        store = self._store(root)
        if buffer.kind == "opaque":
            return store.get(root)
        if root not in store:
            return np.zeros(buffer.shape, self.dtype(buffer))
        return store[root].reshape(buffer.shape)

    def writable(self, index: int) -> np.ndarray:
        """A buffer's own array in its shape, zero where nothing was written before, to be changed in place."""
        buffer = self.program.buffers[index]
        root = self.program.root(index)
        store = self._store(root)
        if root not in store:
            store[root] = np.zeros(buffer.shape, self.dtype(buffer))
        return store[root].reshape(buffer.shape)

    def write(self, index: int, value: Any) -> None:
        """Replaces what a buffer holds; the value is converted to its element type. ExecutionError on another shape."""
        buffer = self.program.buffers[index]
        if buffer.kind == "opaque":
            self._data[self.program.root(index)] = value
            return
        array = np.asarray(value)
        if array.shape != buffer.shape:
            raise ExecutionError(
                f"buffer {buffer.name}: a value of shape {list(array.shape)} came, {list(buffer.shape)} is expected"
            )
        dtype = self.dtype(buffer)
        with np.errstate(all="ignore"):
            array = array if array.dtype == dtype else cast(array, dtype)
        root = self.program.root(index)
        if buffer.persistent:  # nothing outside may change it later
            self.persistent[root] = np.array(array, order="C")
        else:
            self._data[root] = np.array(array, order="C", copy=None)

    def forget(self, root: int) -> None:
        """Frees a buffer that nothing reads any more in this micro-batch; a persistent one stays."""
        self._data.pop(root, None)

    def write_cells(self, group: int, weights: np.ndarray, instruction: int = -1) -> None:
        """Writes a group's weights [matrices, rows, cols] into its cells: integers, in `float` numerics real ones.

        `instruction` is the one that writes.
        """
        if self.ideal:
            self.cells[group] = weights
        elif self.devices is not None:
            self.cells[group] = self.devices.programmed(group, weights, instruction=instruction)
        else:
            self.cells[group] = encode_weights(weights, self.program.groups[group].arithmetic)

    def weights(self, group: int) -> np.ndarray:
        """A group's weights [matrices, rows, cols] as its cells hold them, or off-chip memory: integers, in `float`
        numerics float32.

        In `device` numerics those whose levels the cells are nearest to.
        """
        if group in self.off_chip:
            return self.off_chip[group]
        cells = self.cells[group]
        if self.devices is not None:
            return self.devices.found(group, cells)
        return cells if self.ideal else decode_weights(cells, self.program.groups[group].arithmetic)

    def lasting(self, group: int) -> np.ndarray:
        """What lasts of a group from run to run: its weights, in `device` numerics its cells' conductances."""
        in_cells = self.devices is not None and group not in self.off_chip
        return self.cells[group] if in_cells else self.weights(group)

    def real_weights(self, group: int) -> np.ndarray:
        """What UPDATE takes a group's cells to stand for, float32 [matrices, rows, cols]. It has a weight scale."""
        if self.ideal:
            return self.weights(group).astype(np.float32)
        if self.devices is not None and group not in self.off_chip:
            return self.devices.real_weights(group, self.cells[group])
        return in_reals(self.weights(group), self.program.groups[group].weight_scale)

    def write_real_weights(self, group: int, weights: np.ndarray, instruction: int = -1) -> None:
        """Writes real weights, float32, into a group's cells, or off-chip memory, rounded to whole steps of its weight
        scale.

        `instruction` is the one that writes.
        """
        entry = self.program.groups[group]
        if self.devices is not None and group not in self.off_chip:
            self.cells[group], written = self.devices.updated(group, self.cells[group], weights, instruction)
            if self.updates is not None:
                self.updates[instruction] = written
            return
        if not self.ideal:
            weights = in_steps(weights, entry.weight_scale, entry.arithmetic.weight_bits)
        if self.updates is not None:
            self.updates[instruction] = weights
        self.hold(group, weights)

    def hold(self, group: int, weights: np.ndarray) -> None:
        """Puts a group's weights where they last: into its cells, or off-chip memory."""
        if group in self.off_chip:
            self.off_chip[group] = weights
            self.cells.pop(group, None)
        else:
            self.write_cells(group, weights)
