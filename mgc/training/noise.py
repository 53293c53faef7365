"""Random numbers by counter: what is drawn depends on seed, purpose, name and number alone, not on what came before."""

from __future__ import annotations

import hashlib
import json

import numpy as np


def generator(seed: int, purpose: str, name: str, number: int) -> np.random.Generator:
    """A PCG64 generator for one draw."""
    text = json.dumps([seed, purpose, name, number], separators=(",", ":"))
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(text.encode()).digest(), "little")))


def normal(seed: int, name: str, number: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """N(0,1) for batch `number` of input `name`: drawn in float64, then rounded."""
    return np.asarray(generator(seed, "normal", name, number).standard_normal(shape)).astype(dtype)


def uniform(seed: int, name: str, number: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Uniform in [0, 1) for batch `number` of input `name`; below 1 after rounding as well."""
    drawn = np.asarray(generator(seed, "uniform", name, number).random(shape)).astype(dtype)
    return np.minimum(drawn, np.nextafter(dtype.type(1), dtype.type(0)))


def order(seed: int, name: str, epoch: int, count: int) -> np.ndarray:
    """The order of `count` samples in an epoch."""
    return generator(seed, "order", name, epoch).permutation(count)
