"""What lives on the chip from run to run, and how the states of a training step map to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import numpy as np

from mgc.ir.mapped import MvmPart
from mgc.ir.training import State
from mgc.passes.moves.strided import dense_strides


@dataclass(frozen=True)
class HomePiece:
    """A strided box of a flat array in the model's shape, and where its entries are in the flat home."""

    extents: tuple[int, ...]
    base: int
    strides: tuple[int, ...]
    home_base: int
    home_strides: tuple[int, ...]

    @staticmethod
    def dense(shape: tuple[int, ...]) -> HomePiece:
        """All of it, in the same order."""
        return HomePiece(shape, 0, dense_strides(shape), 0, dense_strides(shape))

    def of_state(self, flat: np.ndarray) -> np.ndarray:
        """The box of the state's flat array."""
        return _box(flat, self.base, self.extents, self.strides)

    def of_home(self, flat: np.ndarray) -> np.ndarray:
        """The box of the home's flat array."""
        return _box(flat, self.home_base, self.extents, self.home_strides)


def _box(flat: np.ndarray, base: int, extents: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    return np.lib.stride_tricks.as_strided(flat[base:], extents, [s * flat.itemsize for s in strides])


@dataclass(frozen=True, eq=False)
class Resident:
    """A crossbar group or a persistent buffer; in level-2 graphs the input `name`, whose new value is "NAME.next".

    `initial` is what it holds at first, in its own layout: real weights for a group. `state` is the name of the state
    that lives there ("" for weights that nothing trains), by `piece`. `weight_scale` is what one step of a group's
    cells stands for, 0 for a buffer; `part` the windowed product that a group was made for, `layer` the copy of a
    weight that it is of.
    """

    name: str
    initial: np.ndarray
    state: str = ""
    piece: HomePiece | None = None
    weight_scale: float = 0.0
    part: MvmPart | None = None
    layer: str = ""

    @property
    def is_group(self) -> bool:
        """Whether it is a crossbar group."""
        return self.part is not None


@dataclass(frozen=True, eq=False)
class Residents:
    """All that lives from run to run. `weights` names the residents of each weight on crossbars (and of its moments),
    copy after copy, in part order.
    """

    states: tuple[State, ...]
    all: tuple[Resident, ...]
    weights: dict[str, tuple[str, ...]]

    @property
    def by_name(self) -> dict[str, Resident]:
        """Under their names."""
        return {r.name: r for r in self.all}

    @property
    def groups(self) -> tuple[Resident, ...]:
        """The crossbar groups, in order."""
        return tuple(r for r in self.all if r.is_group)

    @property
    def buffers(self) -> tuple[Resident, ...]:
        """The persistent buffers, in order."""
        return tuple(r for r in self.all if not r.is_group)

    def to_homes(self, states: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the residents hold for states in the model's shapes (untrained weights included)."""
        homes = {}
        for resident in self.all:
            home = resident.initial.copy()
            if resident.piece is not None:
                value = np.ascontiguousarray(states[resident.state]).astype(home.dtype, copy=False)
                resident.piece.of_home(home.reshape(-1))[...] = resident.piece.of_state(value.reshape(-1))
            homes[resident.name] = home
        return homes

    def to_states(self, homes: dict[str, np.ndarray], base: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The states in the model's shapes for what residents hold; entries that no cell holds are `base`'s."""
        states = {name: np.array(value, order="C") for name, value in base.items()}
        for resident in self.all:
            if resident.piece is not None:
                home = np.ascontiguousarray(homes[resident.name])
                value = states[resident.state]
                resident.piece.of_state(value.reshape(-1))[...] = resident.piece.of_home(home.reshape(-1))
        return states


def sizes(residents: Iterable[Resident]) -> dict[str, int]:
    """Bytes of each resident's buffer."""
    return {r.name: prod(r.initial.shape) * r.initial.itemsize for r in residents}
