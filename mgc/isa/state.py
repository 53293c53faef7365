"""What a training program keeps from iteration to iteration, under the names of the model it came from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mgc.functions.windows import strided_view

StateKind = Literal["parameter", "moment", "statistic", "counter", "carried", "pool"]


@dataclass(frozen=True)
class StatePiece:
    """One strided box of a state and where those of its entries live: a home.

    The home is crossbar group `group` (its weights [matrices, rows, cols], flat) or persistent buffer `buffer`; the
    other is -1. For every index of the box `extents`, entry base + sum(i*strides) of the flat state is element
    home_base + sum(i*home_strides) of the flat home.
    """

    group: int
    buffer: int
    extents: tuple[int, ...]
    base: int
    strides: tuple[int, ...]
    home_base: int
    home_strides: tuple[int, ...]

    @staticmethod
    def dense(shape: tuple[int, ...], *, group: int = -1, buffer: int = -1) -> StatePiece:
        """All of a state of `shape`, in the same order as in its home."""
        strides = tuple(int(np.prod(shape[d + 1 :], dtype=np.int64)) for d in range(len(shape)))
        return StatePiece(group, buffer, tuple(shape), 0, strides, 0, strides)

    @property
    def home(self) -> tuple[int, int]:
        """(group, buffer)."""
        return self.group, self.buffer

    def of_state(self, array: np.ndarray) -> np.ndarray:
        """The box of a C-contiguous array in the state's shape."""
        return strided_view(array, self.base, self.extents, self.strides)

    def of_home(self, array: np.ndarray) -> np.ndarray:
        """The box of a home's C-contiguous array."""
        return strided_view(array, self.home_base, self.extents, self.home_strides)


@dataclass(frozen=True)
class StoredState:
    """A value that lives from iteration to iteration: a parameter, a moment, a running statistic, a counter, or what an
    iteration hands on to the next (`carried`: its first value is given when training begins; `pool`: samples kept for
    later, none at first).

    `name` is the ONNX initializer's ("NAME.momentum", "NAME.adam.m" and the like for what an optimizer keeps), `phase`
    the group it is trained in ("" for none). `initial` names the tensor with its first value, in the model's own shape
    and its home's element type. An entry that no piece holds keeps its value; one that several hold (a weight that is
    in two crossbar groups) has equal values in all of them, and the last piece says which.
    """

    id: int
    name: str
    kind: StateKind
    phase: str
    initial: str
    pieces: tuple[StatePiece, ...]


Homes = Callable[[StatePiece], np.ndarray]
"""The C-contiguous array of a piece's home."""


def read_state(state: StoredState, base: np.ndarray, homes: Homes) -> np.ndarray:
    """The state's value in the model's shape: `base` with every piece's entries from its home."""
    value = np.array(base, order="C")
    for piece in state.pieces:
        piece.of_state(value)[...] = piece.of_home(homes(piece))
    return value
