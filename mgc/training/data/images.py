"""A folder of images as samples: all of one size, cut and scaled to what an input takes."""

from __future__ import annotations

from pathlib import Path

from mgc.images import ImageError, ImageShape, image_files
from mgc.images import read_images as read_pixels
from mgc.training.data.samples import Samples
from mgc.training.errors import TrainingError


def read_images(folder: Path, height: int, width: int, channels: int) -> Samples:
    """All images as uint8 [N, C, H, W]: the largest centred part of the right proportions, scaled with antialiasing."""
    shape = ImageShape((channels, height, width), height, width, channels)
    try:
        return Samples(str(folder), shape.arrange(read_pixels(image_files(folder), shape, resize=True)))
    except ImageError as error:
        raise TrainingError(str(error)) from error
