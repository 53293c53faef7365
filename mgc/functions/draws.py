"""Random numbers by counter: what is drawn depends on the seed and on what draws, not on what was drawn before.

This is the normative text of draws. A stream belongs to a seed, a purpose and some numbers: its key is the first 16
bytes of SHA-256 of the JSON list [seed, purpose, numbers ..], little-endian. It is Philox4x64-10 with that key; block n
is what the counter n + 1 gives, four 64-bit words, each cut into four 16-bit draws (or two of 32 bits), lowest first.
Draw number i of a stream is thus known without those before it, on any number of threads and in any order.

A 16-bit draw u stands for a normal number z(u) = the normal quantile of (u + 1/2) / 2^16 (float64, |z| < 4.33),
computed once as a table.

Random ops of a network draw from the stream [seed, "random", op, number], one for each sample: `number` counts the
samples of a run, or of training from its first iteration on, so that a resumed training draws on. Its 32-bit draws w
are uniform numbers (w >> 8) / 2^24 in [0, 1), in float32 exactly; two of them, w and w', are a normal number
sqrt(-2 ln((w + 1) / 2^32)) cos(2 pi w' / 2^32), computed in float64 and rounded once to float32.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cache
from math import prod
from statistics import NormalDist

import numpy as np

BLOCK = 16
"""16-bit draws of one block."""
KEY = "random.key"
"""The input of a program with random ops: int64 [samples, 2], each sample's seed and number."""


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


def keys(seed: int, first: int, count: int) -> np.ndarray:
    """What the input `KEY` holds for `count` samples from number `first` on."""
    return np.stack([np.full(count, seed % (1 << 63)), np.arange(first, first + count)], axis=1).astype(np.int64)


def random_numbers(kind: str, key: np.ndarray, op: int, shape: tuple[int, ...]) -> np.ndarray:
    """float32 [samples, *shape]: what random op number `op` draws for each row (seed, number) of `key`."""
    drawn = np.empty((len(key), prod(shape)), np.float32)
    for row, (seed, number) in zip(drawn, key.tolist(), strict=True):
        stream = Stream.of(seed, "random", op, number)
        if kind == "uniform":
            row[...] = (stream.wide_draws(0, row.size) >> 8).astype(np.float32) * np.float32(2.0**-24)
        else:
            first, second = stream.wide_draws(0, 2 * row.size).astype(np.float64).reshape(-1, 2).T
            row[...] = np.sqrt(-2 * np.log((first + 1) * 2.0**-32)) * np.cos(second * (2 * math.pi * 2.0**-32))
    return drawn.reshape(len(key), *shape)
