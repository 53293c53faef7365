"""What instructions work on: memory, crossbars, ports, states and every tensor of a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mgc.isa.crossbar import CrossbarGroup
from mgc.isa.dtypes import numpy_dtype
from mgc.isa.error import ProgramError
from mgc.isa.functions.base import Operand
from mgc.isa.memory import Buffer, BufferKind, Constant, HostSegment, Port
from mgc.isa.state import StoredState


@dataclass(frozen=True, kw_only=True)
class Resources:
    """The part of a program that its instructions look into.

    `target` is the target description. `states` are what entries for training keep from run to run, and what of one for
    testing can be replaced by trained values.
    """

    target: Mapping[str, Any]
    buffers: tuple[Buffer, ...]
    constants: tuple[Constant, ...]
    groups: tuple[CrossbarGroup, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    host_segments: tuple[HostSegment, ...]
    states: tuple[StoredState, ...] = ()
    tensors: Mapping[str, np.ndarray]

    def root(self, buffer: int) -> int:
        """The buffer whose bytes a buffer stands for: itself, or what it is an alias of."""
        while self.buffers[buffer].alias_of >= 0:
            buffer = self.buffers[buffer].alias_of
        return buffer

    def operand(self, space: int, index: int) -> Operand:
        """Element type (in `quantized` numerics) and shape of a buffer (space 0) or constant (space 1).

        Raises ProgramError for another space, an index out of range, or an opaque buffer.
        """
        if space == 0:
            if not 0 <= index < len(self.buffers):
                raise ProgramError(f"buffer {index} does not exist; there are {len(self.buffers)}")
            buffer = self.buffers[index]
            if buffer.kind == "opaque":
                raise ProgramError(f"buffer {buffer.name} is opaque: only host segments, LOAD and STORE may touch it")
            return Operand(numpy_dtype(buffer.dtype), buffer.shape)
        if space == 1:
            if not 0 <= index < len(self.constants):
                raise ProgramError(f"constant {index} does not exist; there are {len(self.constants)}")
            tensor = self.tensors[self.constants[index].tensor]
            return Operand(tensor.dtype, tensor.shape)
        raise ProgramError(f"operand space {space} is not a buffer (0) or a constant (1)")

    def operand_of_kind(self, kind: BufferKind, index: int) -> Operand:
        """The `operand` in a buffer. Raises ProgramError for a buffer of another kind, too."""
        operand = self.operand(0, index)
        if self.buffers[index].kind != kind:
            raise ProgramError(f"buffer {index} is of kind {self.buffers[index].kind}, {kind} is expected")
        return operand
