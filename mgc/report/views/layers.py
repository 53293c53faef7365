"""The layers: what calibration saw of each, how it is coded, and how large its error is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType

from mgc.isa.program import Program
from mgc.report.text import Heading, Row, pairs, section, stack, table
from mgc.report.units import count, decibels, percent

LEGEND = (
    "input: the range seen on calibration data; codes: U unsigned, S signed, Z with a shifted zero, their bits, and "
    "the range they reach; clipped: inputs beyond it; exact: columns whose converters never clip; weights, output: "
    "signal to error of the rounded weights, and of the layer's sums over sampled windows, converters left out "
    "(200 dB: no error)"
)
TRAINING = "Training keeps no fixed scales: the chip computes one for every tensor and step, from its largest value."


def facts(program: Program) -> dict[str, Any]:
    """What is expected of the outputs, and the record of every layer with weights, as the compiler left it; none in a
    training program.
    """
    layers = [dict(layer) for layer in program.meta.get("layers", ())]
    return {"expected_psnr_db": program.meta.get("expected_psnr_db"), "layers": layers}


def cells(layer: Mapping[str, Any]) -> tuple[str, ...]:
    """Input, codes, clipped, exact, weights, output: what both the text and the page show."""
    kind = "S" if layer["signed"] else "Z" if layer["zero"] else "U"
    return (
        f"{layer['low']:.3g} .. {layer['high']:.3g}",
        f"{kind}{layer['bits']} {layer['clip_low']:.3g} .. {layer['clip_high']:.3g}",
        "-" if layer["clipped"] is None else f"{100 * layer['clipped']:.2g} %" if layer["clipped"] else "none",
        percent(layer["exact_columns"]),
        decibels(layer["weight_snr_db"]),
        decibels(layer["output_snr_db"]),
    )


def render(program: Program) -> RenderableType:
    """One line a layer, under its ONNX nodes."""
    found = facts(program)
    layers, expected = found["layers"], found["expected_psnr_db"]
    if not layers:
        why = TRAINING if program.mode == "training" else "The program has no layer with calibrated codes."
        return pairs([("layers", why)])
    rows: list[Row] = []
    for layer in layers:
        rows.append(Heading(", ".join(layer["onnx_nodes"]) or layer["name"]))
        rows.append(("", *cells(layer)))
    columns = ["", ">input", ">codes", ">clipped", ">exact", ">weights", ">output"]
    worst = min((v["output_snr_db"] for v in layers if v["output_snr_db"] is not None), default=None)
    head = pairs(
        [
            ("layers", count(len(layers))),
            ("least output SNR", decibels(worst)),
            ("outputs", f"{decibels(expected)} PSNR expected, converters that clip or round included"),
        ]
    )
    return stack(head, section("Calibration and error", stack(table(columns, rows), "", LEGEND)))
