"""Random numbers by counter: what a cell or a read draws depends on the seed and on what it is, not on what was before.

This is the normative text of draws. A stream belongs to a seed, a purpose and some numbers: its key is the first 16
bytes of SHA-256 of the JSON list [seed, purpose, numbers ..], little-endian. It is Philox4x64-10 with that key; block n
is what the counter n + 1 gives, four 64-bit words, each cut into four 16-bit draws (or two of 32 bits), lowest first.
Draw number i of a stream is thus known without those before it, on any number of threads and in any order.

A 16-bit draw u stands for a normal number z(u) = the normal quantile of (u + 1/2) / 2^16 (float64, |z| < 4.33),
computed once as a table.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np

BLOCK = 16
"""16-bit draws of one block."""


@cache
def normals() -> np.ndarray:
    """z(u), float64 [2^16], antisymmetric: the mean is exactly 0."""
    half = 1 << 15
    quantile = NormalDist().inv_cdf
    upper = np.array([quantile((half + i + 0.5) / (2 * half)) for i in range(half)])
    table = np.concatenate([-upper[::-1], upper])
    table.setflags(write=False)
    return table


@dataclass(frozen=True)
class Stream:
    """One stream of draws."""

    key: int

    @staticmethod
    def of(seed: int, purpose: str, *numbers: int) -> Stream:
        """The stream of a seed, a purpose and numbers."""
        text = json.dumps([seed, purpose, *numbers], separators=(",", ":"))
        return Stream(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little"))

    def draws(self, first: int, count: int) -> np.ndarray:
        """uint16 [count]: 16-bit draws from block `first` on."""
        return self._words(first, -(-count // BLOCK)).view("<u2")[:count]

    def wide_draws(self, first: int, count: int) -> np.ndarray:
        """uint32 [count]: 32-bit draws from block `first` on."""
        return self._words(first, -(-2 * count // BLOCK)).view("<u4")[:count]

    def _words(self, first: int, blocks: int) -> np.ndarray:
        source = np.random.Philox(counter=first, key=self.key)
        return source.random_raw(4 * blocks).astype("<u8", copy=False)


class CellDraws:
    """The draws of one group's cells, and under `known` what was made of them for good."""

    def __init__(self, seed: int, group: int) -> None:
        self._seed, self._group = seed, group
        self.known: dict[str, Any] = {}

    def stream(self, purpose: str, *numbers: int) -> Stream:
        """The stream of a purpose for the group."""
        return Stream.of(self._seed, purpose, self._group, *numbers)
