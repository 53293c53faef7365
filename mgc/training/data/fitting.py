"""How samples become what an input takes: numbers converted, pixels scaled, axes arranged, images padded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from mgc.images import image_shape
from mgc.training.data.samples import Samples
from mgc.training.errors import TrainingError
from mgc.training.trainee import TraineeInput

PIXELS = (np.arange(256) / 127.5 - 1).astype(np.float32)
"""What the pixel values 0 .. 255 become: -1 .. 1."""

_CHANNELS = (1, 3, 4)

Transform = Callable[[np.ndarray], np.ndarray]


class MisfitError(TrainingError):
    """Samples do not fit an input; the message is the reason."""


@dataclass(frozen=True)
class Fit:
    """Samples fit an input: `rank` says how well (0 as they are, 1 axes arranged, 2 padded, 3 flattened)."""

    rank: int
    transform: Transform
    """A batch of raw samples as the input's array."""


def fit(samples: Samples, port: TraineeInput) -> Fit:
    """How the samples fit the input. Raises MisfitError with the reason."""
    numbers = _numbers(samples, port)
    rank, arrange = _arrange(samples, port)
    inner = port.shape[1:]
    return Fit(rank, lambda rows: np.ascontiguousarray(arrange(numbers(rows)).reshape(len(rows), *inner)))


def _numbers(samples: Samples, port: TraineeInput) -> Transform:
    """Conversion of the element type: bytes for a floating input are pixels."""
    source, wanted = samples.array.dtype, port.dtype
    if source == np.uint8 and wanted.kind == "f":
        table = PIXELS.astype(wanted)
        return lambda rows: table[rows]
    if source.kind == "f" and _is_float(wanted):
        return lambda rows: rows.astype(wanted)
    if source.kind in "iu" and wanted.kind in "iu":
        info = np.iinfo(wanted)

        def whole(rows: np.ndarray) -> np.ndarray:
            if rows.size and not info.min <= int(rows.min()) <= int(rows.max()) <= info.max:
                raise TrainingError(f"{samples.name} holds values that do not fit into {wanted}, for input {port}")
            return rows.astype(wanted)

        return whole
    if source == wanted:
        return lambda rows: rows
    raise MisfitError(f"its values are {source}, the input's {wanted}: convert them")


def _is_float(dtype: np.dtype) -> bool:
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float8"))


def _arrange(samples: Samples, port: TraineeInput) -> tuple[int, Transform]:
    given, inner = samples.shape, port.shape[1:]
    pixels = samples.array.dtype == np.uint8
    layouts = _layouts(given)
    for number, (shape, arrange) in enumerate(layouts):
        if shape == inner:
            return min(number, 1), arrange
    if _without_ones(given) == _without_ones(inner):
        return 1, layouts[0][1]
    for shape, arrange in layouts if pixels else ():
        margins = _margins(shape, inner)
        if margins is not None:
            return 2, _padding(arrange, margins, PIXELS[0] if port.dtype.kind == "f" else 0)
    if len(inner) == 1 and prod(given) == inner[0]:
        first = layouts[-1] if len(given) == 3 and given[2] in (3, 4) and given[0] not in _CHANNELS else layouts[0]
        return 3, first[1]
    raise MisfitError(f"a sample is {list(given)}, the input takes {list(inner)}{_hint(pixels, given, inner)}")


def _padding(arrange: Transform, margins: list[tuple[int, int]], black: float) -> Transform:
    return lambda rows: np.pad(arrange(rows), [(0, 0), *margins], constant_values=black)


def _layouts(given: tuple[int, ...]) -> list[tuple[tuple[int, ...], Transform]]:
    """Shapes that a sample can take by moving or adding its channel axis, itself first, channels first last."""
    found: list[tuple[tuple[int, ...], Transform]] = [(given, lambda rows: rows)]
    if len(given) == 2:
        found.append(((*given, 1), lambda rows: rows[..., None]))
        found.append(((1, *given), lambda rows: rows[:, None]))
    if len(given) == 3 and given[0] in _CHANNELS:
        found.append(((*given[1:], given[0]), lambda rows: rows.transpose(0, 2, 3, 1)))
    if len(given) == 3 and given[2] in _CHANNELS:
        found.append(((given[2], *given[:2]), lambda rows: rows.transpose(0, 3, 1, 2)))
    return found


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _margins(given: tuple[int, ...], inner: tuple[int, ...]) -> list[tuple[int, int]] | None:
    """Even margins of the two image axes that make one shape into the other; None if none do."""
    if len(given) != len(inner) or len(inner) not in (2, 3):
        return None
    channel = None if len(inner) == 2 else next((axis for axis in (0, 2) if inner[axis] in _CHANNELS), None)
    if len(inner) == 3 and channel is None:
        return None
    more = [b - a for a, b in zip(given, inner, strict=True)]
    if any(n < 0 or n % 2 or (n and axis == channel) for axis, n in enumerate(more)):
        return None
    return [(n // 2, n // 2) for n in more]


def _hint(pixels: bool, given: tuple[int, ...], inner: tuple[int, ...]) -> str:
    sides = _without_ones(inner)
    if pixels and len(given) == 2 and len(sides) == 2:
        if all(a <= b for a, b in zip(given, sides, strict=True)):
            return " (images are padded by even margins only)"
        return " (images in a file are not made smaller; those in a folder are)"
    return ""


def image_size(port: TraineeInput) -> tuple[int, int, int, int] | None:
    """(rank, height, width, channels) of the images that an input takes; None if it takes none.

    Rank 0: it has image axes; rank 1: it takes flat images, square, grey or RGB.
    """
    found = image_shape(port.shape[1:]) if port.dtype.kind == "f" else None
    return None if found is None else (int(found.flat), found.height, found.width, found.channels)
