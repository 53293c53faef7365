"""Integer matrix products on the kernels of ONNX Runtime, each used only where it is exact on this machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Literal

import numpy as np

from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.fast.values import Element

KernelName = Literal["u8s8", "u8u8", "float32", "float64"]

_MOST_PARTS = 3
"""Products in "float32" that take no longer than one in "float64"."""

_BASE, _HALF = 255, 127
"""Whole numbers as 255 h + l: an odd base leaves no number in the middle between two multiples, so that |l| <= 127."""

Span = tuple[int, int]
"""The whole numbers that codes take: lo <= x <= hi, lo <= 0 <= hi."""


def largest_partial_sum(weights: np.ndarray, codes: Span) -> int:
    """A bound on |any partial sum| of x @ weights, in any order, over all x in range; weights [K, N] are integers.

    A partial sum adds some of the terms x_k w_k, each of which lies between min(lo w, hi w) and max(lo w, hi w). These
    bounds are <= 0 and >= 0, so a sum of some lies between the sums of all. For unsigned x this is the one-sided bound
    max(sum w+, sum w-) * max x.
    """
    if weights.size == 0:
        return 0
    lo, hi = codes
    positive = np.maximum(weights, 0).sum(axis=0, dtype=np.int64)
    # float64 holds every sum exactly that some kernel could; larger ones only have to come out large
    up = positive.astype(np.float64)
    down = (positive - weights.sum(axis=0, dtype=np.int64)).astype(np.float64)
    above = up * hi - down * lo
    below = down * hi - up * lo
    return int(max(above.max(), below.max()))


def choose(weights: np.ndarray, codes: Span, element: Element) -> KernelName:
    """The fastest kernel that gives x @ weights exactly, x lying as `element` says.

    - "u8s8": 8-bit products summed in int32, which wraps: exact if the result fits and the processor's instructions do
      not saturate on the way, which `is_exact` finds out.
    - "u8u8": the same with weights stored plus 128 and that zero point taken off by the kernel.
    - "float32", "float64": every product and partial sum is a whole number below 2^24 or 2^53, so that no operation,
      fused or not and in whatever order, rounds.

    Raises OverflowError where not even float64 is exact.
    """
    bound = largest_partial_sum(weights, codes)
    small = weights.size == 0 or (int(weights.min()) >= -128 and int(weights.max()) <= 127)
    if element.dtype == np.uint8 and small and bound < 1 << 31:
        for name in ("u8s8", "u8u8"):
            if is_exact(name):
                return name
    if bound < 1 << 24:
        return "float32"
    if bound < 1 << 53:
        return "float64"
    raise OverflowError(f"sums reach {bound}")


def exact_parts(weights: np.ndarray, codes: Span) -> list[int] | None:
    """Where to cut the rows of weights [K, N] so that "float32" is exact for each part: the starts of the parts, and K;
    None if that takes more than `_MOST_PARTS` equal ones.
    """
    rows = len(weights)
    for count in range(1, _MOST_PARTS + 1):
        cuts = [rows * k // count for k in range(count + 1)]
        if all(largest_partial_sum(weights[a:b], codes) < 1 << 24 for a, b in pairwise(cuts)):
            return cuts
    return None


def product(g: GraphBuilder, x: str, element: Element, weights: np.ndarray, kernel: KernelName) -> tuple[str, np.dtype]:
    """x [..., K] @ weights [K, N] by a kernel, and the element type of the result, which holds whole numbers."""
    if kernel == "u8s8":
        operands = [x, g.constant(weights.astype(np.int8))]
        if element.bias:
            operands.append(g.constant(np.uint8(element.bias)))
        return g.node("MatMulInteger", *operands), np.dtype(np.int32)
    if kernel == "u8u8":
        stored = g.constant((weights.astype(np.int16) + 128).astype(np.uint8))
        operands = [x, stored, g.constant(np.uint8(element.bias)), g.constant(np.uint8(128))]
        return g.node("MatMulInteger", *operands), np.dtype(np.int32)
    real = np.dtype(kernel)
    return g.node("MatMul", in_reals(g, x, element, real), g.constant(weights.astype(real))), real


def in_reals(g: GraphBuilder, x: str, element: Element, real: np.dtype) -> str:
    """The numbers that x holds, as floats of a type."""
    if element.dtype != real:
        x = g.cast(x, real)
    return g.node("Sub", x, g.constant(real.type(element.bias))) if element.bias else x


def product_of_halves(
    g: GraphBuilder, x: str, rows: int, weights: np.ndarray, codes: Span
) -> tuple[str, np.dtype] | None:
    """x [n, rows, K], whole float32 numbers, @ weights [K, N] as 255 h + l: both halves go through one 8-bit product,
    whose weights are a quarter of those in float32. None where that is not exact.
    """
    if max(-codes[0], codes[1]) > _HALF * _BASE or 2 * largest_partial_sum(weights, codes) >= 1 << 31:
        return None
    half = Element(np.dtype(np.uint8), 128)
    kernel = choose(weights, (-128, 127), half)
    if kernel not in ("u8s8", "u8u8"):
        return None
    zero, base, one = g.constant(np.uint8(half.bias)), g.constant(np.float32(_BASE)), g.constant(np.float32(1))
    high = g.node("QuantizeLinear", x, base, zero)
    low = g.node("QuantizeLinear", g.node("Sub", x, g.node("DequantizeLinear", high, base, zero)), one, zero)
    sums, dtype = product(g, g.concat([high, low], axis=1), half, weights, kernel)
    parts = [g.slice(sums, k * rows, (k + 1) * rows, axis=1) for k in range(2)]
    return g.node("Add", g.node("Mul", parts[0], g.constant(dtype.type(_BASE))), parts[1]), dtype


def _hard_cases(rng: np.random.Generator, depth: int, cols: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes uint8 [37, depth] and weights [depth, cols] that saturate wherever saturation can happen."""
    codes = rng.integers(0, 256, (37, depth))
    codes[:8] = 255
    codes[8:16] = rng.choice([0, 255], (8, depth))
    weights = rng.integers(-128, 128, (depth, cols))
    weights[:, ::4] = 127
    weights[:, 1::4] = -128
    weights[:, 2::4] = rng.choice([-128, 127], weights[:, 2::4].shape)
    return codes.astype(np.uint8), weights


@cache
def is_exact(name: KernelName) -> bool:
    """Whether a kernel computes the hardest integer products of several shapes exactly on this machine.

    Processors without 8-bit dot products may add pairs of products in 16 bits, saturating: 2 * 255 * 127 does not fit.
    Which instructions run depends on the processor alone, so one probe a process is enough; the shapes cover single
    rows, full and partial tiles.
    """
    rng = np.random.default_rng(0)
    for depth, cols in ((2, 1), (5, 40), (260, 3), (259, 70)):
        codes, weights = _hard_cases(rng, depth, cols)
        for bias in (0, 128):
            if not _agrees(name, codes, weights, bias):
                return False
    return True


def _agrees(name: KernelName, codes: np.ndarray, weights: np.ndarray, bias: int) -> bool:
    g = GraphBuilder()
    x = g.input("x", codes.dtype)
    result, dtype = product(g, x, Element(codes.dtype, bias), weights, name)
    g.output(result, "y", dtype)
    session = g.session(1)
    expected = (codes.astype(np.int64) - bias) @ weights
    run: Callable[[np.ndarray], np.ndarray] = lambda a: session.run(["y"], {"x": a})[0]  # noqa: E731
    return all(np.array_equal(run(codes[:m]), expected[:m]) for m in (1, 3, 16, len(codes)))
