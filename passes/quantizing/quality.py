"""How well each layer's codes and whole numbers do, on calibration data: what reports show of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgc.ir.op import register_attr
from mgc.passes.quantizing.codes import Reach
from mgc.passes.quantizing.emit import QuantizedLayer
from mgc.passes.quantizing.exactness import exact
from mgc.passes.quantizing.layers import Layer
from mgc.passes.quantizing.products import product
from mgc.passes.quantizing.windows import CodedWindows
from mgc.targets.description import Crossbar

MOST_DB = 200.0
"""What stands for no error at all: beyond what float32 can tell."""


@register_attr
@dataclass(frozen=True)
class LayerQuality:
    """Calibration and error of one layer.

    onnx_nodes: what it computes. low, high: the range of its input on calibration data, in reals; clip_low, clip_high:
    what its codes reach. bits: of a code; scale: its step; zero: the code of 0; signed: whether codes can be negative.
    clipped: the share of inputs seen that codes do not reach. weight_scale_low, weight_scale_high: steps of the
    columns' whole numbers. exact_columns: the share of columns whose converters never clip. weight_snr_db: energy of
    the real weights over that of their rounding errors. output_snr_db: energy of the real sums (without bias) over that
    of the error of the coded ones, over sampled windows. What was not measured is None.
    """

    name: str
    onnx_nodes: tuple[str, ...]
    low: float
    high: float
    clip_low: float
    clip_high: float
    bits: int
    scale: float
    zero: int
    signed: bool
    clipped: float | None
    weight_scale_low: float
    weight_scale_high: float
    exact_columns: float
    weight_snr_db: float
    output_snr_db: float | None


def quality_of(
    layer: Layer, chosen: QuantizedLayer, seen: Reach, windows: CodedWindows | None, crossbar: Crossbar
) -> LayerQuality:
    """The quality of what was chosen; `seen` is the range of its input, `windows` None where none were sampled."""
    codes = chosen.codes
    rounding = layer.weights - chosen.weights * chosen.scales[:, None, :]
    clips = crossbar.adc_mode == "clip"
    return LayerQuality(
        name=layer.name,
        onnx_nodes=tuple(layer.node.sources),
        low=float(seen[0]),
        high=float(seen[1]),
        clip_low=codes.scale * (codes.lo - codes.zero),
        clip_high=codes.scale * (codes.hi - codes.zero),
        bits=codes.bits,
        scale=codes.scale,
        zero=codes.zero,
        signed=codes.signed,
        clipped=None if windows is None else float(np.mean([p.clipped for p in windows.parts])),
        weight_scale_low=float(chosen.scales.min()),
        weight_scale_high=float(chosen.scales.max()),
        exact_columns=float(exact(chosen.weights, layer.splits, crossbar).mean()) if clips else 0.0,
        weight_snr_db=decibels(_energy(layer.weights), _energy(rounding)),
        output_snr_db=None if windows is None else _output_snr(windows, chosen),
    )


def _output_snr(windows: CodedWindows, chosen: QuantizedLayer) -> float | None:
    """Over the compared windows of all parts; the bias is no part of the signal, its correction is of the error."""
    layer = windows.layer
    weights = (chosen.weights * chosen.scales[:, None, :]).astype(np.float32)
    shift = (chosen.bias - layer.bias).reshape(layer.weights.shape[0], 1, -1)
    bounds = np.cumsum((0, *layer.splits))
    signal = error = 0.0
    for k, part in enumerate(windows.parts):
        mine = slice(bounds[k], bounds[k + 1])
        real = product(part.real, layer.weights[:, mine])
        coded = product(part.coded.astype(np.float32) * np.float32(windows.codes.scale), weights[:, mine])
        signal += _energy(real)
        error += _energy(coded + shift - real)
    return decibels(signal, error) if signal else None


def decibels(signal: float, error: float) -> float:
    """10 log10(signal / error), at most MOST_DB and at least its negative."""
    if error <= 0 or signal <= 0:
        return MOST_DB if error <= 0 else -MOST_DB
    return float(np.clip(10 * np.log10(signal / error), -MOST_DB, MOST_DB))


def _energy(x: np.ndarray) -> float:
    return float(np.square(x, dtype=np.float64).sum())
