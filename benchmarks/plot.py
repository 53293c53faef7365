"""Curves on two logarithmic axes as a small SVG, two panels side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from xml.sax.saxutils import escape

WIDTH, HEIGHT, MARGIN = 430, 300, 50
COLOURS = ("#1b6ca8", "#c8553d", "#588157", "#8e5ea2", "#b8860b", "#4d4d4d")


@dataclass(frozen=True)
class Series:
    """A curve: its points, and whether it is of the left panel."""

    name: str
    points: Sequence[tuple[float, float]]
    left: bool


def log_log(series: Sequence[Series], across: str, up: tuple[str, str]) -> str:
    """The curves, each panel with its own scale up; curves of one name have one colour."""
    names = list(dict.fromkeys(s.name for s in series))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}" height="{HEIGHT + 20 * len(names)}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for panel, label in enumerate(up):
        own = [s for s in series if s.left == (panel == 0)]
        parts += _panel(own, panel * WIDTH, across, label, names)
    for k, name in enumerate(names):
        y = HEIGHT + 12 + 20 * k
        parts.append(f'<rect x="{MARGIN}" y="{y - 9}" width="14" height="4" fill="{COLOURS[k % len(COLOURS)]}"/>')
        parts.append(f'<text x="{MARGIN + 20}" y="{y}">{escape(name)} micro-batches</text>')
    return "\n".join([*parts, "</svg>\n"])


def _panel(series: Sequence[Series], x0: int, across: str, label: str, names: Sequence[str]) -> list[str]:
    xs = [log10(x) for s in series for x, _ in s.points]
    ys = [log10(max(y, 1e-3)) for s in series for _, y in s.points]
    left, right, low, high = min(xs), max(xs), floor(min(ys)), ceil(max(ys))
    high = max(high, low + 1)

    def at(x: float, y: float) -> tuple[float, float]:
        px = x0 + MARGIN + (log10(x) - left) / max(right - left, 1e-9) * (WIDTH - 2 * MARGIN)
        py = HEIGHT - MARGIN - (log10(max(y, 1e-3)) - low) / (high - low) * (HEIGHT - 2 * MARGIN)
        return px, py

    parts = [f'<text x="{x0 + WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across)}</text>']
    parts.append(f'<text x="{x0 + MARGIN}" y="{MARGIN - 14}">{escape(label)}</text>')
    for power in range(low, high + 1):
        _, y = at(10**left, 10.0**power)
        parts.append(
            f'<line x1="{x0 + MARGIN}" x2="{x0 + WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
            f'<text x="{x0 + MARGIN - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
        )
    for x in sorted({x for s in series for x, _ in s.points}):
        px, _ = at(x, 10.0**low)
        parts.append(f'<text x="{px:.1f}" y="{HEIGHT - MARGIN + 15}" text-anchor="middle">{x:g}</text>')
    for s in series:
        colour = COLOURS[names.index(s.name) % len(COLOURS)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(x, y) for x, y in s.points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        for px, py in (at(x, y) for x, y in s.points):
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.5" fill="{colour}"/>')
    return parts
