"""The functions of a program's diff-blocks as curves in SVG: f and f', as the tables give them and as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

from mgc.isa.program import Program
from mgc.report.palette import WAVE_COLOURS
from mgc.report.views.losses import facts

_WIDTH, _HEIGHT = 330, 230
_LEFT, _TOP, _INNER_WIDTH, _INNER_HEIGHT = 44, 40, 270, 150
_MOST = 12
_CURVES = (("exact_f", "f", WAVE_COLOURS[0]), ("exact_slope", "f'", WAVE_COLOURS[1]))


def draw(program: Program, title: str) -> str:
    """A panel for each function; the same program gives the same text."""
    panels: dict[str, dict[str, Any]] = {}
    for block in facts(program)["blocks"]:
        name = f"{block['function']}" + ("" if block["target"] is None else f", t = {block['target']:g}")
        panels.setdefault(name + (", negative" if block["sign"] < 0 else ""), block)
    shown = list(panels.items())[:_MOST]
    across = max(1, min(3, len(shown)))
    width, height = across * _WIDTH, 44 + -(-max(1, len(shown)) // across) * _HEIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="15" font-weight="bold" fill="#212529">{escape(title)}: diff-blocks</text>',
    ]
    if not shown:
        parts.append('<text x="16" y="60" fill="#495057">The program computes no loss.</text>')
    for k, (name, block) in enumerate(shown):
        parts += _panel((k % across) * _WIDTH, 44 + k // across * _HEIGHT, name, block)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(x0: int, y0: int, name: str, block: dict[str, Any]) -> list[str]:
    curve = block["curve"]
    u = curve["u"]
    every = [v for key, _, _ in _CURVES for v in curve[key]]
    low, high = max(min(every), -10.0), min(max(every), 10.0)
    high = high if high > low else low + 1

    def place(x: float, y: float) -> str:
        across = (x - u[0]) / (u[-1] - u[0])
        up = (min(max(y, low), high) - low) / (high - low)
        return f"{x0 + _LEFT + across * _INNER_WIDTH:.1f},{y0 + _TOP + (1 - up) * _INNER_HEIGHT:.1f}"

    segments = block["segments"]
    error = f"tables of {segments} segments, error {block['value_error']:.1e}" if segments else "exact"
    parts = [
        f'<text x="{x0 + _LEFT}" y="{y0 + 16}" font-weight="bold" fill="#212529">{escape(name)}</text>',
        f'<text x="{x0 + _LEFT}" y="{y0 + 31}" fill="#495057">{escape(error)}</text>',
        f'<rect x="{x0 + _LEFT}" y="{y0 + _TOP}" width="{_INNER_WIDTH}" height="{_INNER_HEIGHT}" fill="none" '
        'stroke="#dee2e6"/>',
    ]
    for value in (low, high):
        y = place(u[0], value).split(",")[1]
        parts.append(f'<text x="{x0 + _LEFT - 6}" y="{y}" text-anchor="end" fill="#495057">{value:.2g}</text>')
    for value in (u[0], 0.0, u[-1]):
        x = place(value, low).split(",")[0]
        parts.append(
            f'<text x="{x}" y="{y0 + _TOP + _INNER_HEIGHT + 14}" text-anchor="middle" fill="#495057">{value:g}</text>'
        )
    for k, (key, label, colour) in enumerate(_CURVES):
        parts.append(_line([place(x, y) for x, y in zip(u, curve[key], strict=True)], colour))
        dots = [place(x, y).split(",") for x, y in list(zip(u, curve[key.removeprefix("exact_")], strict=True))[::4]]
        parts += [f'<circle cx="{x}" cy="{y}" r="2" fill="{colour}"/>' for x, y in dots]
        x = x0 + _LEFT + _INNER_WIDTH - 30 + 18 * k
        parts.append(f'<text x="{x}" y="{y0 + 31}" fill="{colour}">{label}</text>')
    return parts


def _line(points: Sequence[str], colour: str) -> str:
    return f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
