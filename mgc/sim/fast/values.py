"""How a value of the program lies in the tensors of a graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mgc.functions.windows import Layout


@dataclass(frozen=True)
class Element:
    """A value's number is the tensor's element (of type `dtype`) minus `bias`.

    Signed 8-bit codes lie as uint8 with bias 128, which the kernels take; accumulators lie in whatever type holds
    their sums exactly.
    """

    dtype: np.dtype
    bias: int = 0

    def stored(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers as elements; adding a bias of 0 would change the sign of -0."""
        return numbers.astype(self.dtype) + self.dtype.type(self.bias) if self.bias else numbers.astype(self.dtype)


@dataclass(frozen=True)
class Frame:
    """A dense piece of memory (one micro-batch of a buffer) seen as [batch, channels, positions].

    `dims` and `strides` say which part of the row-major index every axis is, position axes from the third on; axes of
    extent 1 are left out there, and neighbours that merge are merged, so that equal frames compare equal.
    """

    batch: int
    channels: int
    positions: int
    channel_stride: int
    batch_stride: int
    spatial: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """Elements in all."""
        return self.batch * self.channels * self.positions

    @staticmethod
    def of(view: Layout, size: int) -> Frame | None:
        """The frame of a strided view [batch, channels, *spatial] of `size` dense elements.

        None unless the view is a permutation of the memory's axes, each element once, the batch axis outermost.
        """
        shape, strides = view.shape, view.strides
        axes = [(n, s) for n, s in zip(shape, strides, strict=True) if n > 1]
        expected = 1
        for n, s in sorted(axes, key=lambda a: a[1]):
            if s != expected:
                return None
            expected *= n
        if expected != size or 0 in shape:
            return None
        batch, channels = shape[0], shape[1]
        spatial = list(zip(shape[2:], strides[2:], strict=True))
        if batch > 1 and strides[0] * batch != size:
            return None
        merged: list[tuple[int, int]] = []
        for n, s in spatial:
            if n == 1:
                continue
            if merged and merged[-1][1] == n * s:
                merged[-1] = (merged[-1][0] * n, s)
            else:
                merged.append((n, s))
        return Frame(
            batch,
            channels,
            math.prod(n for n, _ in spatial),
            strides[1] if channels > 1 else 0,
            strides[0] if batch > 1 else 0,
            tuple(merged),
        )

    @staticmethod
    def channels_first(shape: Sequence[int]) -> Frame | None:
        """[batch, channels, *spatial], row-major."""
        return Frame.of(Layout.nchw(shape), math.prod(shape)) if len(shape) >= 2 else None

    @staticmethod
    def channels_last(shape: Sequence[int]) -> Frame | None:
        """[batch, *positions, channels], row-major."""
        if len(shape) < 2:
            return None
        (batch, *positions), (step, *steps) = shape, Layout.nchw(shape).strides
        view = Layout((batch, positions[-1], *positions[:-1]), (step, steps[-1], *steps[:-1]))
        return Frame.of(view, math.prod(shape))

    def axes(self) -> tuple[list[int], list[int]]:
        """The extents of a sample's axes in memory, outermost first; their numbers as rows have them: channels last."""
        named = [(n, s) for n, s in (*self.spatial, (self.channels, self.channel_stride)) if n > 1]
        held = sorted(range(len(named)), key=lambda k: -named[k][1])
        return [named[k][0] for k in held], [held.index(k) for k in range(len(named))]

    def view(self, flat: np.ndarray) -> np.ndarray:
        """One micro-batch's memory [size] as [batch, positions, channels]."""
        extents, order = self.axes()
        array = flat.reshape([self.batch, *extents]).transpose([0, *(1 + k for k in order)])
        return array.reshape(self.batch, self.positions, self.channels)

    def addresses(self) -> np.ndarray:
        """int64 [batch, positions, channels]: where in the memory every element is."""
        return self.view(np.arange(self.size, dtype=np.int64))


@dataclass(frozen=True)
class Part:
    """Some rows: a tensor [n, rows / fold, fold * channels], n = micro-batches * batch.

    `fold` rows lie side by side, so that what varies by channel only repeats along a long inner axis: element-wise
    kernels run faster over it.
    """

    tensor: str
    rows: int
    fold: int = 1


@dataclass(frozen=True)
class Rows:
    """Channels-last form: a row of channels for every position.

    The parts' rows are numbered one after the other; `index` int64 [positions] is the row of each position, -1 where
    the value is zero. Rows may serve many positions, or none.
    """

    frame: Frame
    parts: tuple[Part, ...]
    index: np.ndarray

    @staticmethod
    def whole(frame: Frame, tensor: str) -> Rows:
        """One tensor [n, positions, channels] with a row for each position."""
        return Rows(frame, (Part(tensor, frame.positions),), np.arange(frame.positions))

    @property
    def total(self) -> int:
        """Rows of all parts."""
        return sum(p.rows for p in self.parts)

    @property
    def has_holes(self) -> bool:
        """Whether some positions are zero for want of a row."""
        return bool((self.index < 0).any())

    @property
    def in_order(self) -> bool:
        """Whether row k is position k."""
        return self.total == len(self.index) and bool((self.index == np.arange(len(self.index))).all())


@dataclass(frozen=True)
class GraphValue:
    """A buffer's or register's content in one graph, in one form or two.

    shape: of one micro-batch. logical: its element type in the program. dense: tensor [k * shape[0], *shape[1:]].
    limit: no element's magnitude exceeds it, so that there is no NaN either; inf if not known.
    least: every element is at least that; -inf if not known.
    span: every element is a whole number lo <= x <= hi; None if not known.
    batched: it differs from micro-batch to micro-batch; otherwise its tensors are those of one micro-batch (k = 1).
    """

    shape: tuple[int, ...]
    logical: np.dtype
    element: Element
    dense: str | None = None
    rows: Rows | None = None
    limit: float = math.inf
    least: float = -math.inf
    span: tuple[int, int] | None = None
    batched: bool = True
