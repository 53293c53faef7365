"""A folder of images as samples: all of one size, cut and scaled to what an input takes."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mgc.training.data.samples import Samples
from mgc.training.errors import TrainingError

SUFFIXES = (".png", ".jpg", ".jpeg")

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def list_images(folder: Path) -> list[Path]:
    """The images in a folder and those below it, sorted by path. TrainingError if there are none."""
    try:
        found = [p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
        images = sorted((p for p in found if p.is_file()), key=lambda p: p.relative_to(folder).as_posix())
        if images:
            return images
        others = sorted(p.name for p in folder.iterdir() if p.is_file())[:4]
    except OSError as error:
        raise TrainingError(f"{folder} cannot be read: {error.strerror or error}") from error
    there = f"it holds {', '.join(others)}: name one file" if others else "it is empty"
    raise TrainingError(f"{folder}: there are no images ({', '.join(SUFFIXES)}) in this folder; {there}")


def read_images(folder: Path, height: int, width: int, channels: int) -> Samples:
    """All images as uint8 [N, C, H, W]: the largest centred part of the right proportions, scaled with antialiasing."""
    files = list_images(folder)
    pixels = np.empty((len(files), height, width, channels), np.uint8)
    for number, file in enumerate(files):
        pixels[number] = _pixels(file, height, width, channels)
    return Samples(str(folder), pixels.transpose(0, 3, 1, 2))


def _pixels(file: Path, height: int, width: int, channels: int) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                plain = _in_mode(ImageOps.exif_transpose(image), _MODES[channels])
                fitted = _middle(plain, height, width).resize((width, height), Image.Resampling.BICUBIC)
    except UnidentifiedImageError as error:
        raise TrainingError(f"{file} is no image that can be read; take it out") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TrainingError(f"{file} is larger than any image should be ({error}); make it smaller") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # what Pillow raises for damaged files
        raise TrainingError(f"{file} is truncated or damaged ({error}); take it out") from error
    return np.asarray(fitted).reshape(height, width, channels)


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
