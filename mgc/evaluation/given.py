"""What `--input NAME=...` may give: an .npy file, an image, a folder of images, or the numbers themselves."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from mgc.evaluation.errors import GivenError
from mgc.functions.regular_files import load_arrays

if TYPE_CHECKING:
    import numpy as np

    from mgc.isa.memory import Port


@dataclass(frozen=True)
class ImageOptions:
    """How images become values: what black and white are, and whether those of another size are cut and scaled."""

    limits: tuple[float, float]
    resize: bool


AS_FILES = ImageOptions((-1.0, 1.0), resize=False)


@dataclass(frozen=True)
class Literal:
    """Numbers in the place of a file: one for everything, a sample's, or one a sample where a sample is one number.

    `rows` is the number of rows of a sample on axis 0; None where the input counts no samples.
    """

    text: str
    numbers: tuple[float, ...]
    port: Port
    rows: int | None

    def samples(self, count: int) -> np.ndarray:
        """The input for `count` samples. GivenError if there are not as many numbers as are needed."""
        import numpy as np

        from mgc.isa.dtypes import is_float, numpy_dtype

        dtype = numpy_dtype(self.port.dtype)
        whole = self.port.shape if self.rows is None else (count * self.rows, *self.port.shape[1:])
        size = prod(whole) if self.rows is None else prod(whole) // max(count, 1)
        fits = len(self.numbers) in (1, size) or (size == 1 and len(self.numbers) == count)
        if not fits:
            raise GivenError(
                f"--input {self.port.name}={self.text}: {len(self.numbers)} numbers, but "
                f"{f'{count} samples of {size}' if self.rows else size} are needed: give one for all, or a sample's"
            )
        if not is_float(dtype) and any(not isinstance(n, int) for n in self.numbers):
            raise GivenError(f"--input {self.port.name}={self.text}: {self.port.dtype} is expected: give whole numbers")
        values = np.array(self.numbers, np.float64 if is_float(dtype) else np.int64)
        result = np.broadcast_to(values, (prod(whole) // len(values), len(values))).reshape(whole)
        return result.astype(bool) if dtype.kind == "b" else result


def load_input(path: Path, port: Port, rows: int | None, images: ImageOptions) -> np.ndarray | Literal:
    """What is given for an input; `rows` as for `Literal`. GivenError or ImageError: what, where, what to do."""
    text = str(path)
    numbers = _numbers(text)
    if numbers is not None:
        return Literal(text, numbers, port, rows)
    from mgc.images import image_files, image_shape, is_image_source, read_images, scale_pixels

    if not is_image_source(path):
        return load_array(path)
    from mgc.isa.dtypes import is_float, numpy_dtype

    dtype = numpy_dtype(port.dtype)
    sample = port.shape[1:] if rows is not None else port.shape
    shape = image_shape(sample) or image_shape(port.shape[1:])
    if shape is None or not (is_float(dtype) or dtype.name == "uint8"):
        from mgc.sim.inputs import describe

        raise GivenError(f"--input {port.name}={path}: input {describe(port)} takes no images; give an .npy array")
    files = image_files(path)
    values = scale_pixels(read_images(files, shape, resize=images.resize), dtype, images.limits)
    arranged = shape.arrange(values)
    return arranged.reshape(port.shape) if rows is None and arranged.size == prod(port.shape) else arranged


def load_array(path: Path) -> np.ndarray:
    """The one array of an .npy file; nothing in it is executed."""
    import numpy as np

    if not path.is_file():
        there = "is a folder, a device or a pipe" if path.exists() else "is not there"
        raise GivenError(f"there is no file {path} (an .npy array is expected; it {there})")
    try:
        array = load_arrays(path)
    except (ValueError, OSError) as error:
        raise GivenError(f"{path} is no readable .npy array ({error}): write it with numpy.save") from error
    if not isinstance(array, np.ndarray):
        raise GivenError(f"{path} is an .npz archive of several arrays: give one array, written with numpy.save")
    return array


def _numbers(text: str) -> tuple[float, ...] | None:
    """The numbers that a text is, whole ones as such; None if it is anything else. `true` and `false` are 1 and 0."""
    words = {"true": 1, "false": 0}
    try:
        return tuple(words[t] if t in words else _number(t) for t in text.split(","))
    except ValueError:
        return None


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)
