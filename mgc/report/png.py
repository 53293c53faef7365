"""Outputs as a picture: a grid of images, or of waveforms where the output is a signal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from mgc.isa.dtypes import numpy_dtype
from mgc.isa.instructions import BUFFER, REGISTER, Move, Ref, Vec
from mgc.isa.program import Program
from mgc.isa.windows import CrossbarRead
from mgc.report.palette import WAVE_COLOURS

MAX_CELLS = 256
_CELL = 64  # pixels that a small image is enlarged to, at least
_WAVE = (240, 96)
_GAP = 2
_FINE = 3  # waveforms are drawn this much larger, then reduced: smooth lines
_SHORTEST_WAVE = 16
_LEFT_LINE = ((0, 0), (0, 0), (1, 0), (0, 0))


class PictureError(ValueError):
    """No output can be drawn; the message lists what there is."""


@dataclass(frozen=True)
class Picture:
    """A drawn grid: the image, the output it shows, what it is, how many samples of how many, the range of values."""

    image: Image.Image
    output: str
    kind: Literal["images", "waveforms"]
    shown: int
    samples: int
    low: float
    high: float


def check(program: Program) -> None:
    """PictureError if no output of the program can be drawn: to be known before it runs."""
    shapes = {p.name: np.broadcast_to(np.zeros((), numpy_dtype(p.dtype)), p.shape) for p in program.outputs}
    if not any(view(array) is not None for array in shapes.values() for view in (as_images, as_waveforms)):
        raise _nothing_to_draw({name: array.shape for name, array in shapes.items()})


def draw(
    program: Program,
    outputs: Mapping[str, Any],
    inputs: Mapping[str, Any] | None = None,
    targets: Mapping[str, Any] | None = None,
    *,
    strip: bool = False,
) -> Picture:
    """The first output that is an image, else the first that is a signal. PictureError if there is none.

    Beside each image stand those of the `inputs` that it was made from, and the one of `targets` that the output should
    be, as panels: input | output | target. `strip`: all in one row.

    Images are [N, 1 or 3, H, W] (or channels last, or [N, H*W] with H = W, as MLP GANs have), signals [N, C, L] or
    [N, L]. Black to white is -1 to 1 after tanh, 0 to 1 after sigmoid, else the least to the largest value.
    """
    arrays = {name: np.asarray(a) for name, a in outputs.items()}
    for kind, view in (("images", as_images), ("waveforms", as_waveforms)):
        for name, array in arrays.items():
            seen = view(array)
            if seen is not None:
                low, high = value_range(program, name, seen)
                cells = seen[:MAX_CELLS]
                columns = len(cells) if strip else None
                if kind == "images":
                    panels = [*_given(inputs or {}, cells), _pixels(cells, low, high)]
                    wanted = as_images(np.asarray((targets or {}).get(name, 0)))
                    if wanted is not None and len(wanted) >= len(cells):
                        line = np.pad(_pixels(wanted[: len(cells)], low, high), _LEFT_LINE, constant_values=255)
                        panels.append(line)
                    image = _sheet(np.concatenate(panels, axis=2), columns)
                else:
                    image = wave_grid(cells, low, high, columns)
                return Picture(image, name, "images" if kind == "images" else "waveforms", *_counts(seen), low, high)
    raise _nothing_to_draw({name: a.shape for name, a in arrays.items()})


def frames(strip: Picture) -> list[Image.Image]:
    """The samples of a strip, one after the other."""
    step = (strip.image.width - _GAP) // strip.shown
    return [strip.image.crop((k * step, 0, (k + 1) * step + _GAP, strip.image.height)) for k in range(strip.shown)]


def _nothing_to_draw(shapes: Mapping[str, tuple[int, ...]]) -> PictureError:
    found = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    return PictureError(
        f"no output is an image or a signal: {found}; what can be drawn is [N, 1 or 3, H, W], [N, H, W, 1 or 3], "
        "[N, H * W], [N, C, L] and [N, L]. Leave --png out; -o OUT.npz keeps the values."
    )


def _counts(seen: np.ndarray) -> tuple[int, int]:
    return min(len(seen), MAX_CELLS), len(seen)


def as_images(array: np.ndarray) -> np.ndarray | None:
    """The output as images [N, H, W, 1 or 3]; None if it is not made of images."""
    if array.dtype.kind not in "fiu" or not array.size:
        return None
    if array.ndim == 4 and min(array.shape[2:]) > 1 and array.shape[1] in (1, 3):
        return array.transpose(0, 2, 3, 1)
    if array.ndim == 4 and min(array.shape[1:3]) > 1 and array.shape[3] in (1, 3):
        return array
    if array.ndim == 2 and array.shape[1] >= 64 and math.isqrt(array.shape[1]) ** 2 == array.shape[1]:
        side = math.isqrt(array.shape[1])
        return array.reshape(-1, side, side, 1)
    return None


def as_waveforms(array: np.ndarray) -> np.ndarray | None:
    """The output as signals [N, C, L]; None if it is not made of signals."""
    if array.dtype.kind not in "fiu" or not array.size or array.ndim not in (2, 3):
        return None
    signals = array if array.ndim == 3 else array[:, None, :]
    return signals if signals.shape[2] >= _SHORTEST_WAVE else None


def value_range(program: Program, output: str, values: np.ndarray) -> tuple[float, float]:
    """What is black and what is white."""
    known = known_range(program, output)
    if known:
        return known
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def known_range(program: Program, output: str) -> tuple[float, float] | None:
    """The range of the function whose result the output is, where it has one."""
    return {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}.get(last_function(program, output))


def last_function(program: Program, output: str) -> str:
    """The vector function whose result the output is ("tanh"), through moves, views and casts; "" if there is none."""
    homes = {b.id: b.alias_of if b.alias_of >= 0 else b.id for b in program.buffers}
    writers = {homes[b]: i for i in program.instructions for b in i.writes()}
    buffer = next((homes.get(p.buffer, -1) for p in program.outputs if p.name == output), -1)
    for _ in program.instructions:  # a chain cannot be longer
        found: str | int = ""
        match writers.get(buffer):
            case Vec() | CrossbarRead() as kernel:
                found = next((_origin(kernel, s.value) for s in kernel.stores if homes[s.dst] == buffer), "")
            case Move() as move if len(move.reads()) == 1:
                found = move.reads()[0]
        if isinstance(found, str):
            return found
        buffer = homes[found]
    return ""


def _origin(kernel: Vec | CrossbarRead, value: Ref) -> str | int:
    """The function behind a value of a kernel, or the buffer that it is only a copy of."""
    while value.space == REGISTER:
        number = value.index - isinstance(kernel, CrossbarRead)  # whose register 0 holds the sums
        if number < 0:
            return ""
        step = kernel.steps[number]
        name = step.name
        if name not in ("cast", "copy", "reshape"):
            return name
        value = step.args[0]
    return value.index if value.space == BUFFER else ""


def _given(inputs: Mapping[str, Any], cells: np.ndarray) -> list[np.ndarray]:
    """The inputs that are images, as pixels of the size and channels of `cells`, a white line to the right of each."""
    count, height, width, channels = cells.shape
    found: list[np.ndarray] = []
    for array in inputs.values():
        seen = as_images(array) if array.ndim == 4 else None
        if seen is None or len(seen) < count:
            continue
        rows, columns = (np.arange(n) * m // n for n, m in ((height, seen.shape[1]), (width, seen.shape[2])))
        pixels = _pixels(seen[:count, rows][:, :, columns], *_plain_range(seen))
        if pixels.shape[3] != channels:
            pixels = np.rint(pixels.mean(axis=3, keepdims=True)).astype(np.uint8).repeat(channels, axis=3)
        found.append(np.pad(pixels, ((0, 0), (0, 0), (0, 1), (0, 0)), constant_values=255))
    return found


def _plain_range(values: np.ndarray) -> tuple[float, float]:
    """Black and white of images of unknown range: the usual range that holds them, else the least and the largest."""
    finite = values[np.isfinite(values)].astype(np.float64)
    low, high = float(finite.min(initial=0)), float(finite.max(initial=0))
    usual = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
    return next((r for r in usual if r[0] <= low and high <= r[1]), (low, high))


def _pixels(images: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = (images.astype(np.float64) - low) / (high - low) * 255
    return np.rint(np.clip(np.nan_to_num(scaled), 0, 255)).astype(np.uint8)


def image_grid(images: np.ndarray, low: float, high: float) -> Image.Image:
    """Images [N, H, W, C] side by side, small ones enlarged by a whole factor."""
    return _sheet(_pixels(images, low, high))


def _sheet(pixels: np.ndarray, columns: int | None = None) -> Image.Image:
    factor = max(1, -(-_CELL // max(pixels.shape[1:3])))
    pixels = pixels.repeat(factor, axis=1).repeat(factor, axis=2)
    count, height, width, channels = pixels.shape
    columns = columns or grid_columns(count, width, height)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + _GAP) + _GAP, columns * (width + _GAP) + _GAP, channels), 255, np.uint8)
    for k, image in enumerate(pixels):
        y, x = _GAP + (k // columns) * (height + _GAP), _GAP + (k % columns) * (width + _GAP)
        sheet[y : y + height, x : x + width] = image
    return Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)


def wave_grid(signals: np.ndarray, low: float, high: float, columns: int | None = None) -> Image.Image:
    """Signals [N, C, L] as small plots with a zero line, one colour a channel."""
    width, height = _WAVE
    columns = columns or grid_columns(len(signals), width, height)
    rows = -(-len(signals) // columns)
    size = (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP)
    sheet = Image.new("RGB", (size[0] * _FINE, size[1] * _FINE), "#dee2e6")
    pen = ImageDraw.Draw(sheet)
    for k, signal in enumerate(signals):
        x0, y0 = (_GAP + (k % columns) * (width + _GAP)) * _FINE, (_GAP + (k // columns) * (height + _GAP)) * _FINE
        _plot(pen, signal, (x0, y0), (low, high))
    return sheet.resize(size, Image.Resampling.LANCZOS)


def _plot(pen: ImageDraw.ImageDraw, signal: np.ndarray, corner: tuple[int, int], limits: tuple[float, float]) -> None:
    x0, y0 = corner
    low, high = limits
    width, height = _WAVE[0] * _FINE, _WAVE[1] * _FINE
    margin = 4 * _FINE
    pen.rectangle((x0, y0, x0 + width - 1, y0 + height - 1), fill="#ffffff")
    along = x0 + margin + np.arange(signal.shape[1]) * ((width - 2 * margin) / (signal.shape[1] - 1))

    def level(values: np.ndarray) -> np.ndarray:
        share = np.clip(np.nan_to_num((values.astype(np.float64) - low) / (high - low)), 0, 1)
        return y0 + height - margin - share * (height - 2 * margin)

    if low < 0 < high:
        zero = float(level(np.zeros(1))[0])
        pen.line((x0, zero, x0 + width, zero), fill="#ced4da", width=_FINE)
    for channel, values in enumerate(signal):
        points = list(zip(along.tolist(), level(values).tolist(), strict=True))
        pen.line(points, fill=WAVE_COLOURS[channel % len(WAVE_COLOURS)], width=round(1.4 * _FINE), joint="curve")


def grid_columns(count: int, width: int, height: int) -> int:
    """Columns that make the sheet about as wide as high."""
    return max(1, min(count, math.ceil(math.sqrt(count * height / width))))
