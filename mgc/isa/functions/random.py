"""The generator of the vector unit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mgc.functions.draws import KEY, keys, random_numbers
from mgc.isa.functions.base import Array, Attributes, Operand, VecFunction, require, whole


def _function(code: int, kind: str, doc: str) -> VecFunction:
    def run(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
        op, each, *shape = (int(a) for a in attributes)
        drawn = random_numbers(kind, args[0][: None if each else 1], op, tuple(shape))
        return drawn if each else drawn[0]

    return VecFunction(code, f"random_{kind}", ("key",), ("op", "each", "shape..."), "random", doc, run, _infer)


def _infer(args: Sequence[Operand], attributes: Attributes) -> Operand:
    (key,) = args
    fits = key.dtype == np.int64 and len(key.shape) == 2 and key.shape[0] >= 1 and key.shape[1] == 2
    require(fits, f"random: the key is {key}, int64[samples,2] is expected")
    _, each, *shape = (whole(a, "random: an attribute") for a in attributes)
    require(each in (0, 1), "random: each is 0 or 1")
    return Operand(np.dtype(np.float32), (*key.shape[:1] * each, *shape))


RANDOM: tuple[VecFunction, ...] = (
    _function(104, "uniform", "uniform numbers in [0, 1) of op `op`, by the text on random numbers. each 1: of `shape` "
              "for each row of the key, a sample's seed and number; each 0: of `shape` in all, by the first row"),
    _function(105, "normal", "normal numbers, likewise"),
)  # fmt: skip
"""Random numbers by counter."""

__all__ = ["KEY", "RANDOM", "keys"]
