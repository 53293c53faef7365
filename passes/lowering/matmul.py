"""Matrix products with one constant operand as windowed matrix products: one window a row of the other operand."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from mgc.ir.mapped import CHANNEL_MAJOR, Layout, Mvm, MvmPart, Windows


@dataclass(frozen=True)
class MatMulPlan:
    """How `numpy.matmul` of an activation and a constant runs on crossbars.

    The activation is reshaped to `operand` (ones put in), expanded to shape `expand`, transposed by `perm`; then `op`
    applies, whose result is transposed by `result_perm` and reshaped to the product's own shape.
    """

    operand: tuple[int, ...]
    expand: tuple[int, ...]
    perm: tuple[int, ...]
    op: Mvm
    weights: np.ndarray
    result_perm: tuple[int, ...]


def lower_matmul(x: tuple[int, ...], w: np.ndarray, constant_left: bool, name: str) -> MatMulPlan:
    """Plans activation @ w, or w @ activation if `constant_left`, for an activation of shape `x`.

    A stack of weight matrices becomes several matrices of one part, each with its own slice of the channels.
    """
    # vectors become matrices as numpy.matmul has it; w is turned so that it is [*stack, K, N]
    if len(x) == 1:
        x = (x[0], 1) if constant_left else (1, x[0])
    if w.ndim == 1:
        w = w[None, :] if constant_left else w[:, None]
    if constant_left:
        w = w.swapaxes(-1, -2)
    rank = max(len(x), w.ndim)
    x = (1,) * (rank - len(x)) + x
    w = w.reshape((1,) * (rank - w.ndim) + w.shape)
    held = [a for a in range(rank - 2) if w.shape[a] > 1]
    free = [a for a in range(rank - 2) if w.shape[a] == 1]
    k, n = w.shape[-2:]
    expand = (*(max(d, e) for d, e in zip(x[:-2], w.shape[:-2], strict=True)), *x[-2:])
    matrices = prod(w.shape[a] for a in held)
    batch, tokens = prod(expand[a] for a in free), expand[-1] if constant_left else expand[-2]
    if rank == 2 and not constant_left:
        batch, tokens = tokens, 1  # the rows of one matrix are samples
    stack = [expand[a] for a in free]
    groups = [expand[a] for a in held]
    if constant_left:
        # [*free, *held, K, tokens]: channels (matrix, k) have one stride as they lie
        perm = (*free, *held, rank - 2, rank - 1)
        source, result = Layout.nchw((batch, matrices * k, tokens)), Layout.nchw((batch, matrices * n, tokens))
        made = (*stack, *groups, n, tokens)
    else:
        # [*free, tokens, *held, K]: channels (matrix, k) are adjacent
        perm = (*free, rank - 2, *held, rank - 1)
        source, result = _rows(batch, tokens, matrices * k), _rows(batch, tokens, matrices * n)
        made = (*stack, expand[-2], *groups, n)
    windows = Windows((tokens,), (1,), (0,), (1,), (1,), (0,), (1,))
    weights = np.ascontiguousarray(w.transpose(*held, *free, rank - 2, rank - 1).reshape(matrices, k, n))
    part = MvmPart(name, matrices, k, n, CHANNEL_MAJOR, windows)
    op = Mvm((part,), source, result, made, batch * tokens * matrices * k * n)
    back = tuple(perm.index(a) for a in range(rank))
    return MatMulPlan(x, expand, perm, op, weights, back)


def _rows(batch: int, tokens: int, channels: int) -> Layout:
    """The rows of matrices [batch, tokens, channels] as windows."""
    return Layout((batch, channels, tokens), (tokens * channels, 1, channels))
