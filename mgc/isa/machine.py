"""The machine that instructions run on: buffers of one micro-batch, cells, constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mgc.isa.dtypes import numpy_dtype
from mgc.isa.error import ExecutionError
from mgc.isa.functions import cast
from mgc.isa.memory import Buffer
from mgc.isa.program import Program

if TYPE_CHECKING:
    from mgc.isa.instructions.vec import Ref

HostRunner = Callable[[int, Sequence[Any]], Sequence[Any]]
"""Runs host segment number n on its arguments."""

IDEAL_DTYPE = np.dtype(np.float32)
"""What code and accumulator buffers hold in `float` numerics."""


class Machine:
    """State of one program between instructions, for one micro-batch at a time.

    `ideal` chooses `float` numerics: cells hold real weights, code and accumulator buffers hold float32. A buffer reads
    as zero until something is written. The program must have passed `Program.verify`: addresses are not checked again.
    `cells` maps a group to what PROGRAM wrote: levels uint8 [matrices, slices, signs, rows, cols], or in `float`
    numerics real weights [matrices, rows, cols]. `inputs` and `outputs` hold one micro-batch under port numbers.
    """

    def __init__(self, program: Program, ideal: bool, host: HostRunner) -> None:
        self.program = program
        self.ideal = ideal
        self.host = host
        self.cells: dict[int, np.ndarray] = {}
        self.inputs: dict[int, Any] = {}
        self.outputs: dict[int, Any] = {}
        self._data: dict[int, Any] = {}

    def begin(self, inputs: dict[int, Any]) -> None:
        """Starts a micro-batch: all buffers are zero."""
        self.inputs = inputs
        self.outputs = {}
        self._data = {}

    def dtype(self, buffer: Buffer) -> np.dtype:
        """Element type of a buffer in this machine's numerics."""
        return IDEAL_DTYPE if self.ideal and buffer.kind in ("code", "acc") else numpy_dtype(buffer.dtype)

    def read(self, ref: Ref, registers: Sequence[np.ndarray] = ()) -> Any:
        """An operand: a buffer (as C-contiguous array, or an opaque object), a constant or a register."""
        if ref.space == 0:
            return self.buffer(ref.index)
        if ref.space == 1:
            return self.program.tensors[self.program.constants[ref.index].tensor]
        return registers[ref.index]

    def buffer(self, index: int) -> Any:
        """What a buffer holds, in its shape; not to be changed."""
        buffer = self.program.buffers[index]
        root = self.program.root(index)
        if buffer.kind == "opaque":
            return self._data.get(root)
        if root not in self._data:
            return np.zeros(buffer.shape, self.dtype(buffer))
        return self._data[root].reshape(buffer.shape)

    def writable(self, index: int) -> np.ndarray:
        """A buffer's own array in its shape, zero where nothing was written before, to be changed in place."""
        buffer = self.program.buffers[index]
        root = self.program.root(index)
        if root not in self._data:
            self._data[root] = np.zeros(buffer.shape, self.dtype(buffer))
        return self._data[root].reshape(buffer.shape)

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
        self._data[self.program.root(index)] = np.array(array, order="C", copy=None)

    def forget(self, root: int) -> None:
        """Frees a buffer that nothing reads any more."""
        self._data.pop(root, None)
