"""Images as arrays: reading files and folders of them, and what of a tensor's shape holds one. A leaf of the house."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt, prod
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mgc.functions.regular_files import open_regular

_MOST_BYTES = 1 << 28
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
"""The formats that are read; a file is never taken for anything else, whatever it is called."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
DEFAULT_RANGE = (-1.0, 1.0)
"""What black and white become where nothing else is said."""

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class ImageError(ValueError):
    """A file is no image, or not one that fits: the message says what, where and what to do."""


@dataclass(frozen=True)
class ImageShape:
    """The image that one sample of a tensor holds; `shape` is the sample's own, `flat` if it has no image axes."""

    shape: tuple[int, ...]
    height: int
    width: int
    channels: int
    flat: bool = False
    channels_last: bool = False

    def arrange(self, pixels: np.ndarray) -> np.ndarray:
        """Images [N, H, W, C] as samples [N, *shape]; flat ones channel by channel, as PyTorch flattens."""
        axes = pixels if self.channels_last else pixels.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(axes).reshape(len(pixels), *self.shape)

    def images(self, samples: np.ndarray) -> np.ndarray:
        """Samples [N, *shape] as images [N, C, H, W]."""
        if self.channels_last:
            return samples.transpose(0, 3, 1, 2)
        return samples.reshape(len(samples), self.channels, self.height, self.width)

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {'grey' if self.channels == 1 else _MODES[self.channels]}"


def image_shape(sample: Sequence[int]) -> ImageShape | None:
    """The image that a sample is: channels (1, 3 or 4) first or last, none, or a flat square; None if it is none."""
    shape = tuple(sample)
    if len(shape) == 3 and shape[0] in _MODES and min(shape[1:]) > 1:
        return ImageShape(shape, shape[1], shape[2], shape[0])
    if len(shape) == 3 and shape[2] in _MODES and min(shape[:2]) > 1:
        return ImageShape(shape, shape[0], shape[1], shape[2], channels_last=True)
    if len(shape) == 2 and min(shape) > 1:
        return ImageShape(shape, shape[0], shape[1], 1)
    for channels in (1, 3) if len(shape) == 1 else ():
        side = isqrt(prod(shape) // channels)
        if side > 1 and side * side * channels == prod(shape):
            return ImageShape(shape, side, side, channels, flat=True)
    return None


def is_image_source(path: Path) -> bool:
    """Whether a path is to be read as images: a folder, or a file with the suffix of one."""
    return path.is_dir() or path.suffix.lower() in SUFFIXES


def image_files(path: Path) -> list[Path]:
    """The images in a folder and those below it, sorted by path; the file itself if it is one. ImageError if none."""
    if not path.is_dir():
        return [path]
    try:
        found = [p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
        images = sorted((p for p in found if p.is_file()), key=lambda p: p.relative_to(path).as_posix())
        if images:
            return images
        others = sorted(p.name for p in path.iterdir() if p.is_file())[:4]
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error
    there = f"it holds {', '.join(others)}: name one file" if others else "it is empty"
    raise ImageError(f"{path}: there are no images ({', '.join(SUFFIXES)}) in this folder; {there}")


def read_images(files: Sequence[Path], shape: ImageShape, *, resize: bool) -> np.ndarray:
    """Images as uint8 [N, H, W, C], grey or colour as `shape` says. One of another size is cut to the largest centred
    part of the right proportions and scaled with antialiasing if `resize`, else refused. Raises ImageError.
    """
    pixels = np.empty((len(files), shape.height, shape.width, shape.channels), np.uint8)
    for number, file in enumerate(files):
        pixels[number] = _pixels(file, shape, resize=resize)
    return pixels


def scale_pixels(pixels: np.ndarray, dtype: np.dtype, limits: tuple[float, float]) -> np.ndarray:
    """Pixels 0 .. 255 as `limits`, black to white; as they are for an input of bytes."""
    if dtype == np.uint8:
        return pixels
    low, high = limits
    return (low + np.arange(256) * ((high - low) / 255)).astype(np.float32).astype(dtype)[pixels]


def parse_range(text: str) -> tuple[float, float]:
    """A,B as two numbers, A < B. ImageError if it is anything else."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = np.nan
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ImageError(f"--image-range {text}: write black and white as two numbers, such as -1,1 or 0,1")
    return low, high


def _pixels(file: Path, shape: ImageShape, *, resize: bool) -> np.ndarray:
    height, width = shape.height, shape.width
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open_regular(file, _MOST_BYTES) as stream, Image.open(stream, formats=FORMATS) as image:
                plain = _in_mode(ImageOps.exif_transpose(image), _MODES[shape.channels])
    except UnidentifiedImageError as error:
        raise ImageError(f"{file} is no image that can be read ({', '.join(FORMATS)}); take it out") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{file} is larger than any image should be ({error}); make it smaller") from error
    except FileNotFoundError as error:
        raise ImageError(f"there is no file {file}") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # what Pillow raises for damaged files
        raise ImageError(f"{file} is truncated or damaged ({error}); take it out") from error
    if plain.size != (width, height):
        if not resize:
            found = f"{plain.width}x{plain.height}"
            raise ImageError(f"{file} is {found}, the input takes {shape}: give --resize to cut and scale it")
        plain = _middle(plain, height, width).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(plain).reshape(height, width, shape.channels)


def _middle(image: Image.Image, height: int, width: int) -> Image.Image:
    """The largest centred part that is as wide for its height as asked."""
    across = min(image.width, max(1, round(image.height * width / height)))
    down = min(image.height, max(1, round(image.width * height / width)))
    left, top = (image.width - across) // 2, (image.height - down) // 2
    return image.crop((left, top, left + across, top + down))


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """The image in 8-bit channels. Palettes go through RGBA, 16-bit grey loses its low byte."""
    if image.mode == "P":
        image = image.convert("RGBA")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray((np.clip(values, 0, 65535) >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its pixels are real numbers; give it as .npy")
    return image if image.mode == mode else image.convert(mode)
