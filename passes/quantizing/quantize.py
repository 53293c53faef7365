"""The quantize pass: codes for activations, whole numbers for weights, tables for functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Lookup
from mgc.ir.module import Entry
from mgc.ir.ops import Binary, Cast, Expand, Reshape, Transpose, Unary
from mgc.ir.types import DType, TensorType
from mgc.passes.manager import Pass
from mgc.passes.mapping.residents import residents_in
from mgc.passes.quantizing.calibrate import Calibration, CalibrationMethod
from mgc.passes.quantizing.codes import Codes, Reach, codes_for, worth_shifting
from mgc.passes.quantizing.emit import Emitter, QuantizedLayer
from mgc.passes.quantizing.exactness import keep_exact
from mgc.passes.quantizing.layers import Layer, find_layers
from mgc.passes.quantizing.quality import LayerQuality, quality_of
from mgc.passes.quantizing.signs import NonNegative
from mgc.passes.quantizing.stated import StatedCodes
from mgc.passes.quantizing.tables import make_table, needs_table
from mgc.passes.quantizing.upstream import Followed, samples_to_follow
from mgc.passes.quantizing.weights import bias_shift, fitted_weights, given_weights, nearest_weights
from mgc.passes.quantizing.windows import CodedWindows, followed_windows, sampled_windows
from mgc.passes.state import CompileState, Tools, UnsupportedError, with_graph
from mgc.targets.description import Crossbar, Target

# Bytes of windows that are kept for other targets.
_MOST_KEPT = 1 << 28
# Taken for a value that calibration did not see.
_UNSEEN = (-8.0, 8.0)


@dataclass(frozen=True)
class Quantize(Pass):
    """Where weights are trained, codes get scales that are computed on the chip: see `quantize_training`. Else puts a
    `quant` before every `mvm` (shared where scale and value agree), whole-number weights with |w| <=
    2^(weight_bits - 1) - 1 into it, and a `dequant` with one scale a column after it, which takes the bias
    `add` in. Inputs that cannot be negative are coded unsigned; those of a lopsided range too, with a code of 0 that
    is not 0, where the layer allows it. Functions that are neither piecewise linear nor exact
    in the vector unit become tables. `method` says how scales are chosen: "minmax" by the largest magnitudes,
    "error" by the least output error; steps that the model itself states (see `stated`) stay, of values and of
    weights. Real weights stay beside the whole numbers, for `float` numerics. How well each layer does on the
    calibration data is recorded.
    """

    name: ClassVar[str] = "quantize"
    levels: ClassVar[tuple[int, ...]] = (1, 2)
    method: CalibrationMethod = "error"

    def run_entry(self, entry: Entry, state: CompileState) -> Entry:
        if state.trains:
            from mgc.passes.quantizing.on_chip import quantize_training

            graph = quantize_training(entry.graph, residents_in(state.module), state.chip, entry.micro_batch)
            return with_graph(entry, graph)
        calibration: Calibration | None = entry.attributes.get("calibration")
        if calibration is None:
            raise ValueError("quantize needs the ranges that scales records")
        graph = entry.graph.copy()
        crossbar = state.target.crossbar
        nonnegative = NonNegative(graph)
        layers = find_layers(graph, nonnegative)
        seen = Ranges(graph, calibration)
        coded = _with_codes(layers, seen, state.target, StatedCodes(graph))
        emitter = Emitter(graph, crossbar)
        quality: list[LayerQuality] = []
        for layer, chosen, windows in self._chosen(entry, graph, coded, seen, state):
            quality.append(quality_of(layer, chosen, seen.of(layer.x), windows, crossbar))
            emitter.emit(layer, chosen)
        simplify_powers(graph)
        state.warnings.extend(tabulate(graph, seen, state.target.vector.table_segments))
        graph.prune()
        return with_graph(entry, graph, calibration=None, calibrated=None, quality=tuple(quality))

    def _chosen(
        self, entry: Entry, graph: Graph, coded: list[tuple[Layer, Codes]], seen: Ranges, state: CompileState
    ) -> Iterator[tuple[Layer, QuantizedLayer, CodedWindows | None]]:
        """Whole numbers, scales and bias for every layer, and the windows that they were fitted on, if any."""
        fitted: dict[Layer, tuple[QuantizedLayer, CodedWindows]] = {}
        crossbar, calibrated = state.target.crossbar, entry.attributes.get("calibrated")
        given = {layer: found for layer, _ in coded if (found := given_weights(layer, crossbar)) is not None}
        if self.method == "error" and calibrated is not None:
            known = [(layer, codes) for layer, codes in coded if seen.is_known(layer.x) and layer not in given]
            calibration: Calibration = entry.attributes["calibration"]
            feeds = calibration.feeds
            sampled = partial(sampled_windows, known, graph, seen.origin, calibrated, feeds, state.tools)
            followed = None
            few = feeds[: samples_to_follow(graph, calibrated, len(known), len(feeds))]
            if few and len(known) == len(coded):
                followed = Followed(graph, few)
                sampled = partial(followed_windows, known, Followed(graph, few), followed)
            fits = _fits(known, crossbar, state.tools, sampled, followed is not None)
            for windows, rounded, first in fits:
                layer = windows.layer
                weights, scales = keep_exact(rounded, layer.weights, first, layer.splits, crossbar)
                bias = layer.bias + bias_shift(windows, weights, scales)
                few = replace(
                    windows, parts=tuple(replace(p, steps=p.steps[:, :0].copy(), lacking=None) for p in windows.parts)
                )
                fitted[layer] = QuantizedLayer(windows.codes, weights, scales, bias), few
                if followed is not None:
                    followed.settle(layer, fitted[layer][0])
        for layer, codes in coded:
            if layer in fitted:
                yield layer, *fitted[layer]
            else:
                weights, scales = given.get(layer) or nearest_weights(layer, crossbar)
                yield layer, QuantizedLayer(codes, weights, scales, layer.bias), None


Fit = tuple[CodedWindows, np.ndarray, np.ndarray]


def _fits(
    known: list[tuple[Layer, Codes]],
    crossbar: Crossbar,
    tools: Tools,
    sample: Callable[[], Iterator[list[CodedWindows]]],
    follows: bool,
) -> Iterator[Fit]:
    """The windows of each layer with the whole numbers and scales that are fitted on them. What all of this depends on
    is the key to it among the results that are kept.
    """
    key = (
        "fits",
        crossbar if follows else crossbar.weight_bits,
        *((layer.op, layer.unsigned, codes) for layer, codes in known),
    )
    if tools.kept is not None and key in tools.kept:
        for (layer, _), (windows, weights, scales) in zip(known, tools.kept[key], strict=True):
            yield replace(windows, layer=layer), weights, scales
        return
    made: list[Fit] = []
    size = 0
    for group in sample():
        for windows, (weights, scales) in zip(group, fitted_weights(group, crossbar), strict=True):
            fit = windows, weights, scales
            size += sum(part.steps.nbytes for part in windows.parts)
            if tools.kept is not None and size <= _MOST_KEPT:
                made.append(fit)
            yield fit
    if tools.kept is not None and len(made) == len(known):
        tools.kept[key] = made


def _with_codes(layers: list[Layer], seen: Ranges, target: Target, stated: StatedCodes) -> list[tuple[Layer, Codes]]:
    """The layers with the codes of their inputs: those that the model states, if it does. Layers that read one value,
    or rearrange it, agree on its codes.
    """
    base = target.crossbar.input_bits
    fixed = {seen.origin(layer.x) for layer in layers if not layer.takes_shifted_codes}
    coded: list[tuple[Layer, Codes]] = []
    for layer in layers:
        reach, shifts = seen.reach(layer.x), seen.origin(layer.x) not in fixed
        bits = seen.bits(layer.x) or base
        codes = stated.codes(layer.x, base, seen.of(layer.x), unsigned=layer.unsigned, shifts=shifts)
        if codes is not None:
            coded.append((layer, codes))
            continue
        shifted = shifts and worth_shifting(seen.of(layer.x))
        if not layer.unsigned and not shifted and bits < 2:
            raise UnsupportedError(
                f"{layer.name}: its input can be negative, which needs input_bits of at least 2, "
                f"but target {target.name} has {bits}"
            )
        coded.append((layer, codes_for(reach, bits, unsigned=layer.unsigned, shifted=shifted)))
    return coded


class Ranges:
    """The range of real values of a lowered graph: as calibration saw it, looked up through ops that only move."""

    def __init__(self, graph: Graph, calibration: Calibration) -> None:
        self._graph, self._calibration = graph, calibration
        self._producers = graph.producers()

    def of(self, value: Value) -> tuple[float, float]:
        """(least, greatest) of a value; what is not finite in a constant counts as 0."""
        value = self.origin(value)
        data = self._graph.data(value)
        if data is not None:
            held = np.where(np.isfinite(data), data, 0)
            return (float(held.min()), float(held.max())) if data.size else (0.0, 0.0)
        return self._calibration.ranges.get(value.name, _UNSEEN)

    def reach(self, value: Value) -> Reach:
        """The range that the codes of a value should hold."""
        return self._calibration.reaches.get(self.origin(value).name) or self.of(value)

    def bits(self, value: Value) -> int:
        """The bits of a value's codes; 0 for as many as others have."""
        return self._calibration.bits.get(self.origin(value).name, 0)

    def is_known(self, value: Value) -> bool:
        """Whether calibration saw the value."""
        return self.origin(value).name in self._calibration.ranges

    def origin(self, value: Value) -> Value:
        """The value that calibration saw, of which this one is a cast or a rearrangement; else the value itself."""
        at = value
        while at.name not in self._calibration.ranges and at not in self._graph.constants:
            node = self._producers.get(at)
            if node is None or not isinstance(node.op, Cast | Expand | Reshape | Transpose):
                return value
            at = node.inputs[0]
        return at


def simplify_powers(graph: Graph) -> None:
    """Squares are products and powers of a half are square roots, which the vector unit computes exactly."""
    for node in graph.nodes:
        if not isinstance(node.op, Binary) or node.op.fn != "pow" or not node.inputs[0].tensor.dtype.is_float:
            continue
        exponent = graph.data(node.inputs[1])
        if exponent is None or exponent.size != 1 or node.inputs[0].shape != node.outputs[0].shape:
            continue
        x = node.inputs[0]
        if float(exponent.reshape(())) == 2.0:
            node.op, node.inputs = Binary("mul"), (x, x)
        elif float(exponent.reshape(())) == 0.5:
            node.op, node.inputs = Unary("sqrt"), (x,)


def tabulate(graph: Graph, seen: Ranges, segments: int) -> list[str]:
    """Replaces functions by tables in place; gives warnings about those that no table of this size follows well."""
    warnings: list[str] = []
    for node in list(graph.nodes):
        op = node.op
        if not isinstance(op, Unary) or not needs_table(op):
            continue
        low, high = seen.of(node.inputs[0])
        table = make_table(op, (low, high), segments)
        spread = float(np.ptp(table.values)) + float(np.abs(table.slopes).max()) * table.step
        if table.error > 0.02 * spread:
            where = node.sources[0] if node.sources else node.outputs[0].name
            warnings.append(
                f"{where}: a table of {segments} segments follows {op.fn} over {low:.3g} .. {high:.3g} only to "
                f"{table.error:.3g}"
            )
        lookup = Lookup(op.fn, op.alpha, op.beta, table.lo, table.step)
        x, y = node.inputs[0], node.outputs[0]
        at = graph.nodes.index(node)
        real = x
        if x.tensor.dtype is not DType.F32:
            real = graph.add(Cast(DType.F32), x, sources=node.sources, at=at)
            at += 1
        values = graph.add_constant(table.values, f"{op.fn}.values")
        slopes = graph.add_constant(table.slopes, f"{op.fn}.slopes")
        graph.nodes.remove(node)
        if real is x:
            graph.nodes.insert(at, Node(lookup, (x, values, slopes), (y,), node.sources))
        else:
            looked = graph.add(lookup, real, values, slopes, sources=node.sources, at=at)
            assert isinstance(y.type, TensorType)
            graph.nodes.insert(at + 1, Node(Cast(y.type.dtype), (looked,), (y,), node.sources))
    return warnings
