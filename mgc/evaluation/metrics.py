"""The metrics of `--metric NAME:REAL`: images that are made beside real ones, on the features of an ONNX network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mgc.evaluation.distances import LEAST, METRICS
from mgc.evaluation.errors import GivenError
from mgc.functions.onnx_model import ModelRunError, OnnxModel
from mgc.functions.regular_files import read_regular
from mgc.images import DEFAULT_RANGE, image_shape
from mgc.isa.dtypes import is_float, numpy_dtype
from mgc.isa.program import Program
from mgc.report.png import known_range
from mgc.training.data.files import read_arrays
from mgc.training.data.fitting import MisfitError, fit
from mgc.training.data.images import read_images
from mgc.training.trainee import TraineeInput

_AT_ONCE = 500
_MORE = "make more samples (-n, with train --metric-samples)"


def parse_metrics(texts: Sequence[str]) -> dict[str, Path]:
    """NAME:REAL texts as the real images of each metric. GivenError."""
    found: dict[str, Path] = {}
    for text in texts:
        name, mark, real = text.partition(":")
        if name not in METRICS or not mark or not real:
            raise GivenError(f"--metric {text}: write NAME:REAL, of {', '.join(METRICS)} and real images")
        if name in found:
            raise GivenError(f"--metric {name} is given twice")
        found[name] = Path(real)
    return found


class FeatureNetwork:
    """An ONNX network from images [N, C, H, W], black to white -1 to 1, to features; all of them, one after the other,
    of its first output. Without a path the one that ships, for grey images of 32x32. Images of another size are scaled,
    grey ones are repeated for a network that takes colour.
    """

    def __init__(self, path: Path | None = None, threads: int | None = 1) -> None:
        shipped = resources.files("mgc.evaluation").joinpath("features.onnx")
        self.name = str(path or "the network of features that ships (32x32 grey)")
        try:
            self._load(read_regular(path, 1 << 31) if path else shipped.read_bytes(), threads)
        except (OSError, ModelRunError) as error:
            raise GivenError(f"--features {path}: {error}: give an ONNX model") from error

    def __getstate__(self) -> tuple[str, bytes, int | None]:
        return self.name, self._bytes, self._threads

    def __setstate__(self, kept: tuple[str, bytes, int | None]) -> None:
        self.name, model, threads = kept
        self._load(model, threads)

    def _load(self, model: bytes, threads: int | None) -> None:
        self._bytes, self._threads = model, threads
        self._model = OnnxModel(model, threads)
        first = self._model.proto.graph.input[:1]
        self._shape = [d.dim_value for i in first for d in i.type.tensor_type.shape.dim]
        if len(self._model.inputs) != 1 or len(self._shape) != 4:
            raise GivenError(f"{self.name}: a network of features has one input [N, C, H, W]")

    def features(self, images: np.ndarray) -> np.ndarray:
        """Features [N, F] of images [N, C, H, W] in -1..1. GivenError where they do not fit."""
        (name,) = self._model.inputs
        size, channels, *_ = self._shape
        if channels not in (0, images.shape[1]) and images.shape[1] != 1:
            raise GivenError(f"{self.name} takes {channels} channels, the images have {images.shape[1]}")
        found = []
        for start in range(0, len(images), size or _AT_ONCE):
            part = self._scaled(images[start : start + (size or _AT_ONCE)])
            filled = np.concatenate([part, part[-1:].repeat(max(0, size - len(part)), axis=0)])
            try:
                result = np.asarray(self._model.run({name: filled.astype(self._model.inputs[name])})[0])
            except ModelRunError as error:
                raise GivenError(f"{self.name} cannot be run on {filled.shape} images: {error}") from error
            found.append(result.reshape(len(filled), -1)[: len(part)])
        return np.concatenate(found)

    def _scaled(self, images: np.ndarray) -> np.ndarray:
        _, channels, height, width = self._shape
        height, width = height or images.shape[2], width or images.shape[3]
        if images.shape[2:] != (height, width):
            planes = images.reshape(-1, *images.shape[2:]).astype(np.float32)
            scaled = [Image.fromarray(p).resize((width, height), Image.Resampling.BICUBIC) for p in planes]
            images = np.stack([np.asarray(p) for p in scaled]).reshape(*images.shape[:2], height, width)
        return images.repeat(channels, axis=1) if channels > images.shape[1] else images


class Metrics:
    """What is asked of the images that a program makes: of the first of its outputs that is one, `output`. `limits` are
    black and white of an output of which the program does not say it, `samples` how many are to be made, where it is
    known. GivenError for real images that do not fit, and for too few of either, before any features are taken.
    """

    def __init__(
        self,
        program: Program,
        real: Mapping[str, Path],
        network: FeatureNetwork,
        limits: tuple[float, float] = DEFAULT_RANGE,
        samples: int | None = None,
    ) -> None:
        shapes = {p.name: image_shape(p.shape[1:]) for p in program.outputs if is_float(numpy_dtype(p.dtype))}
        images = {name: shape for name, shape in shapes.items() if shape is not None}
        if not images:
            raise GivenError(f"--metric: no output of {program.name} is an image: leave --metric out")
        self.output, self._image = next(iter(images.items()))
        self._network = network
        self._limits = known_range(program, self.output) or limits
        read = {path: self._read(path) for path in dict.fromkeys(real.values())}
        for name, path in real.items():
            self._check_enough(name, len(read[path]), f"{path} holds", "give more real images")
            if samples is not None:
                self._check_enough(name, samples, "there are to be", _MORE)
        features = {path: network.features(found) for path, found in read.items()}
        self.real = {name: features[path] for name, path in real.items()}

    def of(self, outputs: Mapping[str, Any]) -> dict[str, float]:
        """Each metric of a run's outputs. GivenError where there are too few."""
        low, high = self._limits
        images = self._image.images(np.asarray(outputs[self.output])).astype(np.float32)
        if (low, high) != (-1.0, 1.0):
            images = (images - np.float32(low)) * np.float32(2 / (high - low)) - np.float32(1)
        for name in self.real:
            self._check_enough(name, len(images), "there are", _MORE)
        made = self._network.features(images)
        try:
            return {name: METRICS[name](made, real) for name, real in self.real.items()}
        except ValueError as error:
            raise GivenError(f"--metric: {error}") from error

    @staticmethod
    def _check_enough(name: str, count: int, where: str, cure: str) -> None:
        if count < LEAST[name]:
            raise GivenError(f"--metric {name}: {where} {count} images, {LEAST[name]} are needed: {cure}")

    def _read(self, path: Path) -> np.ndarray:
        """Real images [N, C, H, W], black to white -1 to 1."""
        shape = self._image
        sides = shape.channels, shape.height, shape.width
        if path.is_dir():
            samples = read_images(path, shape.height, shape.width, shape.channels)
        else:
            found = read_arrays(path)
            if len(found) != 1:
                raise GivenError(f"{path} holds several arrays ({', '.join(found)}): give one of images")
            (samples,) = found.values()
        try:
            return fit(samples, TraineeInput(self.output, (1, *sides), np.dtype(np.float32))).transform(samples.array)
        except MisfitError as error:
            raise GivenError(
                f"--metric: {samples} are no images as output {self.output} makes them: {error}"
            ) from error
