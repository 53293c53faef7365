"""MVMs of one destination as matrix products over rows of channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from math import prod

import numpy as np

from mgc.functions.windows import Layout, Windows
from mgc.isa.crossbar import CrossbarGroup
from mgc.isa.instructions import Mvm
from mgc.isa.program import Program
from mgc.sim.fast import convolution, im2col, kernels, layout, sliced
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.lossless import is_lossless
from mgc.sim.fast.quantisation import quantises_exactly
from mgc.sim.fast.values import Element, Frame, GraphValue, Part, Rows
from mgc.sim.fast.weights import Sums, WeightVariable, by_matrix, common_type, most_of, product, side_by_side
from mgc.sim.fast.windows import SAMPLES, SharedProduct, by_position_pays, cost, shared_products

_FOLD = 2048
"""Elements of a folded row at most."""
_BLOCK = 32
"""Channels up to which matrices of a grouped product join to one block-diagonal one: kernels would run mostly empty."""
NARROW = 16
"""Columns of codes up to which Conv, whose kernels read windows one number at a time, takes longer than a Gather."""
_STREAMED = 1 << 17
"""Weights that take longer to come from memory than to be multiplied by one window."""


def lower(
    g: GraphBuilder,
    program: Program,
    instructions: Sequence[Mvm],
    source: GraphValue,
    shape: tuple[int, ...],
    ideal: bool,
    variables: Mapping[int, WeightVariable],
) -> tuple[GraphValue, list[str]]:
    """All MVMs that write one destination (of `shape`), reading one source; also the kernels used, for each of them.

    Weights are constants, or `variables` of the graph, by group. `quantized`: the sums that the ISA defines, in an
    int32, float32 or float64 tensor that holds them exactly. For columns whose blocks are exact (those of variables are
    taken to be) they are the integer product, done by an exact kernel; for the others `sliced` adds what their
    converters change. `ideal`: the real product in float32.
    Raises NotLoweredError for views that no row form covers, and for sums beyond 2^53.
    """
    exact = {m.id: ideal or m.group in variables or _is_exact(program, m) for m in instructions}

    def kind(m: Mvm) -> object:
        """MVMs that share a product read the same; inexact ones cut their rows into the same blocks, too."""
        group = program.groups[m.group]
        same = m.outside, group.matrices, variables[m.group].planes if variables else None
        return same if exact[m.id] else (*same, m.tap_fastest, group.arithmetic)

    instructions, source_frame, target_frame = _frames(program.groups, instructions, prod(source.shape), prod(shape))
    made: list[tuple[SharedProduct, Sums]] = []
    for shared in shared_products(instructions, source_frame.channels, target_frame.channels, kind):
        is_exact = exact[shared.instructions[0].id]
        product = _Product(g, program, shared, source, source_frame, ideal, is_exact, variables)
        made.append((shared, product.emit()))
        g.nanoseconds_per_micro_batch += cost(shared, source_frame.channels, target_frame.channels) / SAMPLES
    dtype = common_type([m for _, m in made])
    index = np.full(target_frame.positions, -1, np.int64)
    parts: list[Part] = []
    used: dict[int, str] = {}
    for shared, m in made:
        start, width = sum(p.rows for p in parts), len(shared.instructions)
        for j, instruction in enumerate(shared.instructions):
            index[shared.writes[j]] = start + shared.members[j] * width + j
            used[instruction.id] = m.kernel
        parts.append(_folded(g, m.wide(g, dtype), len(shared.reads) * width, target_frame.channels))
    rows = Rows(target_frame, tuple(parts), index)
    logical = np.dtype(np.float32 if ideal else np.int64)
    limit = max(m.limit for _, m in made)
    value = GraphValue(shape, logical, Element(dtype), rows=rows, limit=limit, batched=source.batched)
    return value, [used[i.id] for i in instructions]


def _is_exact(program: Program, m: Mvm) -> bool:
    group = program.groups[m.group]
    return is_lossless(program.tensors[group.weights], group.arithmetic, (m.signed,))


def _frames(
    groups: Sequence[CrossbarGroup], instructions: Sequence[Mvm], source_size: int, target_size: int
) -> tuple[Sequence[Mvm], Frame, Frame]:
    """The frames of source and destination, which all MVMs must share.

    Where a batch axis is not outermost it becomes one more window dimension, of one tap: the same windows otherwise.
    """
    if len({(m.input, m.output, m.signed) for m in instructions}) > 1:
        raise NotLoweredError("MVMs that see source or destination in different shapes")
    for m in instructions:
        group = groups[m.group]
        if group.matrices * group.rows != m.input.shape[1] * m.windows.tap_total:
            raise NotLoweredError("source channels that no matrix reads")
    for candidate in (instructions, [_batch_as_windows(m) for m in instructions]):
        first = candidate[0]
        source = Frame.of(first.input, source_size)
        target = Frame.of(first.output, target_size)
        if source is not None and target is not None:
            return candidate, source, target
    raise NotLoweredError("a view that is no permutation of its buffer's axes")


def _batch_as_windows(m: Mvm) -> Mvm:
    batches = Windows((m.input.shape[0],), (1,), (0,), (1,), (1,), (0,), (1,))
    every = {f.name: getattr(batches, f.name) + getattr(m.windows, f.name) for f in fields(Windows)}
    return replace(m, windows=Windows(**every), input=_batch_inside(m.input), output=_batch_inside(m.output))


def _batch_inside(layout: Layout) -> Layout:
    """The layout with the batch as first spatial dimension of one sample."""
    (batch, channels, *spatial), (step, channel, *steps) = layout.shape, layout.strides
    return Layout((1, channels, batch, *spatial), (prod(layout.shape), channel, step, *steps))


def _folded(g: GraphBuilder, tensor: str, rows: int, channels: int) -> Part:
    """[n, windows, MVMs * channels] as a part of `rows` rows, folded to a long inner axis if that divides."""
    g.note(rows * channels)
    fold = _fold(rows, channels)
    return Part(g.reshape(tensor, [-1, rows // fold, fold * channels]), rows, fold)


def _fold(rows: int, channels: int) -> int:
    """Rows that lie side by side as one."""
    most = max(1, _FOLD // channels)
    return max(f for f in range(1, min(most, rows) + 1) if rows % f == 0)


@dataclass(frozen=True)
class _Product:
    """One `SharedProduct` on its way to kernels."""

    g: GraphBuilder
    program: Program
    shared: SharedProduct
    source: GraphValue
    frame: Frame
    ideal: bool
    exact: bool
    variables: Mapping[int, WeightVariable]

    @property
    def group(self) -> CrossbarGroup:
        """The first instruction's; those of the others have the same form."""
        return self.program.groups[self.shared.instructions[0].group]

    def emit(self) -> Sums:
        first = self.shared.instructions[0]
        if not self.exact:
            split = sliced.split(self._weights(by_tap=False), self.group.arithmetic, first.signed)
            return self._join([self._sliced(x, split, k) for k, x in enumerate(self._inputs(in_row_order=True))])
        if self.variables:
            return self._join([self._by_variables(x, k) for k, x in enumerate(self._inputs(in_row_order=False))])
        weights = self._weights(by_tap=True)
        convolved = self._convolved(weights)
        if convolved is not None:
            return convolved
        if self.group.matrices == 1:
            absorbed = self._absorbed()
            if absorbed is not None:
                x, order = absorbed
                return self._multiply(x, weights[0][order])
            if self.shared.reads.shape[1] > 1 and self._pays_by_position():
                return self._by_position(weights[0])
        size, taps = self._block_size(self.frame.channels // self.group.matrices), self.shared.reads.shape[1]
        starts = range(0, self.group.matrices, size)
        blocks = [_block_diagonal(weights[k : k + size], taps, self.group.cols) for k in starts]
        inputs = self._inputs(in_row_order=False, size=size)
        return self._join([self._multiply(x, w) for x, w in zip(inputs, blocks, strict=True)], size)

    def _convolved(self, weights: np.ndarray) -> Sums | None:
        """The product as one Conv in float32, where that holds every sum of codes exactly; None where it may not."""
        limit, outside = np.inf, 0
        if not self.ideal:
            if self.group.matrices == 1 and weights.shape[2] <= NARROW:
                return None
            if {self._kernel(w) for w in weights} != {"float32"}:
                return None
            limit = max(kernels.largest_partial_sum(w, self._span()) for w in weights)
            outside = self.shared.instructions[0].outside
        tensor = convolution.emit(self.g, self.source, self.frame, self.shared, weights, outside)
        if tensor is None:
            return None
        self.g.optimized |= self.ideal
        return Sums(tensor, np.dtype(np.float32), limit, "float32 Conv")

    def _weights(self, by_tap: bool) -> np.ndarray:
        """[matrices, rows, MVMs * cols]: the matrices of all MVMs side by side; rows tap-major, or as they are."""
        taps, channels = self.shared.reads.shape[1], self.frame.channels // self.group.matrices
        found = []
        for m in self.shared.instructions:
            group = self.program.groups[m.group]
            weights = self.program.tensors[group.real_weights if self.ideal else group.weights]
            if by_tap and m.tap_fastest and taps > 1:
                spread = weights.reshape(len(weights), channels, taps, group.cols)
                weights = spread.swapaxes(1, 2).reshape(weights.shape)
            found.append(weights)
        return np.concatenate(found, axis=2)

    def _absorbed(self) -> tuple[str, np.ndarray] | None:
        """Inputs of a single window that reads every element once, as the source's rows lie; and the order of weights.

        A product's terms may come in any order, so the weights' rows are permuted instead of the inputs.
        """
        rows, reads = self.source.rows, self.shared.reads
        if rows is None or len(reads) != 1 or rows.frame.batch != self.frame.batch:
            return None
        taps, channels = reads.shape[1], self.frame.channels
        if (reads < 0).any() or taps * channels * self.frame.batch != rows.frame.size or rows.has_holes:
            return None
        if len(np.unique(reads)) != taps or sorted(rows.index) != list(range(rows.total)):
            return None
        # memory address -> row of the weights
        weight_at = np.empty(taps * channels, np.int64)
        weight_at[self.frame.addresses()[0][reads[0]].reshape(-1)] = np.arange(taps * channels)
        order = np.empty((rows.total, rows.frame.channels), np.int64)
        order[rows.index] = weight_at[rows.frame.addresses()[0]]
        tensor = layout.merged(self.g, rows, self.source.element)
        return self.g.reshape(tensor, [-1, 1, taps * channels]), order.reshape(-1)

    def _block_size(self, channels: int) -> int:
        """Matrices that join to one block-diagonal product."""
        count = self.group.matrices
        return max(s for s in range(1, count + 1) if count % s == 0 and (s == 1 or s * channels <= _BLOCK))

    def _inputs(self, in_row_order: bool, size: int = 1) -> list[str]:
        """Crossbar inputs [n, windows, rows] of every `size` matrices, taps outermost or in the program's order."""
        rows = layout.rows_of(self.g, self.source, self.frame)
        windows, taps = self.shared.reads.shape
        outside = 0 if self.ideal else self.shared.instructions[0].outside
        gathered = im2col.windows(self.g, rows, self.source.element, self.shared, outside)
        blocks = self.group.matrices // size
        depth = self.frame.channels // blocks
        tensors = by_matrix(self.g, gathered, blocks, windows * taps, self.frame.channels)
        if in_row_order and self.shared.instructions[0].tap_fastest and taps > 1 and depth > 1:
            spread = [self.g.reshape(t, [-1, windows, taps, depth]) for t in tensors]
            tensors = [self.g.node("Transpose", t, perm=[0, 1, 3, 2]) for t in spread]
        return [self.g.reshape(t, [-1, windows, taps * depth]) for t in tensors]

    def _multiply(self, x: str, weights: np.ndarray, whole: np.ndarray | None = None) -> Sums:
        """x [n, windows, K] @ weights [K, columns]; sums of them stay within what the product with `whole` reaches."""
        if self.ideal:
            tensor = self.g.node("MatMul", x, self.g.constant(weights.astype(np.float32)))
            return Sums(tensor, np.dtype(np.float32), np.inf, "float32")
        codes, most = self._span(), weights if whole is None else whole
        kernel = self._kernel(most)
        streams = kernel in ("float32", "float64") and len(self.shared.reads) == 1 and weights.size >= _STREAMED
        if streams and whole is None:
            halves = self._by_halves(x, weights)
            if halves is not None:
                return halves
        cuts = kernels.exact_parts(weights, codes) if kernel == "float64" and whole is None else None
        if cuts is not None:
            return self._by_parts(x, weights, cuts, kernels.largest_partial_sum(weights, codes))
        tensor, dtype = kernels.product(self.g, x, self.source.element, weights, kernel)
        return Sums(tensor, dtype, kernels.largest_partial_sum(most, codes), kernel)

    def _kernel(self, weights: np.ndarray) -> kernels.KernelName:
        try:
            return kernels.choose(weights, self._span(), self.source.element)
        except OverflowError as error:
            raise NotLoweredError(f"{error}: no kernel is exact") from error

    def _by_halves(self, x: str, weights: np.ndarray) -> Sums | None:
        """The product of wide codes in halves of 8 bits: a single window takes as long as its weights take to come."""
        codes, element = self._span(), self.source.element
        if element != Element(np.dtype(np.float32)) or not quantises_exactly(np.dtype(np.uint8)):
            return None
        made = kernels.product_of_halves(self.g, x, 1, weights, codes)
        return None if made is None else Sums(*made, kernels.largest_partial_sum(weights, codes), "8 bits in halves")

    def _by_parts(self, x: str, weights: np.ndarray, cuts: Sequence[int], limit: int) -> Sums:
        """The product part by part of the rows in float32, added up in float64."""
        g, total = self.g, ""
        for start, stop in pairwise(cuts):
            part, _ = kernels.product(
                g, g.slice(x, start, stop, axis=2), self.source.element, weights[start:stop], "float32"
            )
            wide = g.cast(part, np.float64)
            total = g.node("Add", total, wide) if total else wide
        return Sums(total, np.dtype(np.float64), limit, "float32 in parts")

    def _pays_by_position(self) -> bool:
        rows = layout.rows_of(self.g, self.source, self.frame)
        gather = im2col.cost(rows, self.source.element, self.shared)
        return by_position_pays(self.shared, self.frame.channels, self.group.cols, gather)

    def _by_position(self, weights: np.ndarray) -> Sums:
        """The product of every position with the weights of all taps side by side; windows take their terms of it and
        add them up: sums of whole numbers in any order.
        """
        g, (windows, taps) = self.g, self.shared.reads.shape
        rows, columns = layout.rows_of(g, self.source, self.frame), weights.shape[1]
        outside = 0 if self.ideal else self.shared.instructions[0].outside
        x, at, total = layout.located(g, rows, self.shared.reads.T, self.source.element, outside)
        beside = weights.reshape(taps, -1, columns).swapaxes(0, 1).reshape(-1, taps * columns)
        found, dtype = self._multiply(x, beside, beside), np.dtype(np.float32)
        if not self.ideal:  # sums of all taps may need a wider type than those of one
            self._kernel(weights)
            limit = kernels.largest_partial_sum(weights, self._span())
            narrow = limit < (1 << 31 if found.dtype == np.int32 else 1 << 24)
            dtype = found.dtype if narrow else np.dtype(np.float64)
            found = replace(found, limit=limit)
        run = _fold(windows, columns)  # windows whose terms of one tap lie side by side: long rows are added at once
        term = (at * taps + np.arange(taps)[:, None]).reshape(taps, -1, run).swapaxes(0, 1).reshape(-1)
        every = g.reshape(found.tensor, [-1, total * taps, columns])
        terms = g.node("Gather", every, g.constant(term.astype(np.int32)), axis=1)
        terms = g.reshape(terms if dtype == found.dtype else g.cast(terms, dtype), [-1, taps, run * columns])
        tensor = g.reshape(g.node("ReduceSum", terms, g.constant([1]), keepdims=0), [-1, windows, columns])
        return replace(found, tensor=tensor, dtype=dtype)

    def _by_variables(self, x: str, matrix: int) -> Sums:
        """x [n, windows, K] times the matrix of all MVMs, which are variables."""
        instructions, taps = self.shared.instructions, self.shared.reads.shape[1]
        first = self.variables[instructions[0].group]
        weights = [self.variables[m.group].by_tap(taps, m.tap_fastest, matrix) for m in instructions]
        most = max(most_of(self.source), 0 if self.ideal else abs(instructions[0].outside))
        operand = side_by_side(self.g, weights, axis=1)
        return product(self.g, x, self.source.element, most, operand, first.planes, first.group.rows)

    def _span(self) -> kernels.Span:
        """The codes' range; where it is not known, the one that verification makes sure of (`mgc.isa.ranges`)."""
        first = self.shared.instructions[0]
        known = self.source.span or self.group.arithmetic.code_range(first.signed)
        return min(known[0], first.outside, 0), max(known[1], first.outside, 0)

    def _sliced(self, x: str, split: sliced.ConverterSplit, matrix: int) -> Sums:
        """The integer product of a matrix plus what the converters of its inexact blocks change."""
        exact = self._multiply(x, split.weights[matrix])
        if split.corrections[matrix] is None:
            return exact
        change = sliced.emit(self.g, x, self.source.element, split, matrix, len(self.shared.reads))
        limit = exact.limit + change.limit
        if limit >= 1 << 53:
            raise NotLoweredError(f"sums reach {limit}: no kernel is exact")
        small = exact.dtype == change.dtype == np.int32 and limit < 1 << 31
        common = np.dtype(np.int32 if small else np.float64)
        both = [s.wide(self.g, common) for s in (exact, change)]
        return Sums(self.g.node("Add", *both), common, limit, f"{exact.kernel}+{change.kernel}")

    def _join(self, made: list[Sums], size: int = 1) -> Sums:
        """The products of all matrices, [n, windows, (MVM, matrix, column)] each, side by side for every MVM."""
        if len(made) == 1:
            return made[0]
        dtype, rows = common_type(made), len(self.shared.reads) * len(self.shared.instructions)
        spread = [self.g.reshape(m.wide(self.g, dtype), [-1, rows, size * self.group.cols]) for m in made]
        names = "/".join(dict.fromkeys(m.kernel for m in made))
        return Sums(self.g.node("Concat", *spread, axis=2), dtype, max(m.limit for m in made), names)


def _block_diagonal(weights: np.ndarray, taps: int, cols: int) -> np.ndarray:
    """Matrices [m, taps * C, MVMs * cols] as one: rows (tap, matrix, channel), columns (MVM, matrix, column)."""
    size, depth, width = weights.shape
    if size == 1:
        return weights[0]
    joined = np.zeros((taps, size, depth // taps, width // cols, size, cols), weights.dtype)
    for k in range(size):
        joined[:, k, :, :, k] = weights[k].reshape(taps, depth // taps, width // cols, cols)
    return joined.reshape(depth * size, width * size)
