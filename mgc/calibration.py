"""Calibration data: arrays by input name, one array, or images, made what the network's inputs take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mgc.functions.regular_files import load_arrays
from mgc.images import ImageShape, image_files, image_shape, is_image_source, read_images, scale_pixels
from mgc.ir.graph import Graph, Value
from mgc.ir.types import TensorType
from mgc.passes.quantizing.samples import takes_images
from mgc.passes.state import UnsupportedError

# Images of a folder that are read, for each one that the network takes at once.
_MOST_IMAGES = 64


def load_calibration(
    calibration: str | Path | Mapping[str, np.ndarray] | None, graph: Graph, limits: tuple[float, float]
) -> Mapping[str, np.ndarray] | None:
    """Arrays by input name, samples on axis 0, from an .npz, an .npy, an image or a folder of images.

    An .npy or images go to the one input that they fit; of a large folder evenly spaced images are taken, cut and
    scaled to the input's size, black to white as `limits`. UnsupportedError or ImageError: what, where, what to do.
    """
    if calibration is None or isinstance(calibration, Mapping):
        return calibration
    path, inputs = Path(calibration), graph.inputs
    if is_image_source(path):
        shapes = {v: s for v in inputs if (s := _image(v)) is not None}
        likely = takes_images(graph)
        ranks = {v: 0 if v.name in likely else 3 if s.flat else 4 - len(s.shape) for v, s in shapes.items()}
        value = _best(ranks, inputs, path, "images")
        shape, files = shapes[value], image_files(path)
        wanted = _MOST_IMAGES * max(value.shape[0], 1)
        if len(files) > wanted:
            files = [files[round(k)] for k in np.linspace(0, len(files) - 1, wanted)]
        pixels = read_images(files, shape, resize=True)
        arrays = shape.arrange(scale_pixels(pixels, value.tensor.dtype.numpy, limits))
        return {value.name: arrays}
    found = _arrays(path)
    if isinstance(found, Mapping):
        return found
    fitting = {v: 0 for v in inputs if _takes(v, found)}
    return {_best(fitting, inputs, path, f"an array of shape {list(found.shape)}").name: found}


def _arrays(path: Path) -> Mapping[str, np.ndarray] | np.ndarray:
    try:
        return load_arrays(path)
    except (OSError, ValueError) as error:
        raise UnsupportedError(
            f"calibration file {str(path)!r} cannot be read ({error}): give an .npz of arrays under the input names, "
            "an .npy array, an image, or a folder of images"
        ) from error


def _image(value: Value) -> ImageShape | None:
    """The image that a sample of an input is, if it is of real numbers or bytes."""
    if not isinstance(value.type, TensorType) or not value.shape:
        return None
    is_value = value.tensor.dtype.is_float or value.tensor.dtype.numpy == np.uint8
    return image_shape(value.shape[1:]) if is_value else None


def _takes(value: Value, array: np.ndarray) -> bool:
    return isinstance(value.type, TensorType) and array.ndim == len(value.shape) and array.shape[1:] == value.shape[1:]


def _best(fitting: Mapping[Value, int], inputs: Sequence[Value], path: Path, what: str) -> Value:
    """The only input of the lowest rank."""
    best = [v for v, rank in fitting.items() if rank == min(fitting.values())]
    if len(best) == 1:
        return best[0]
    shown = ", ".join(f"{v.name} {list(v.shape) if isinstance(v.type, TensorType) else ''}" for v in inputs) or "none"
    fits = "more than one" if best else "none"
    raise UnsupportedError(
        f"calibration data {path}: {what} can go to {fits} of the inputs ({shown}); "
        "give an .npz of arrays under the input names"
    )
