"""Calibration samples: the user's arrays, or noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mgc.ir.graph import Graph, Value
from mgc.ir.ops import Cast, Conv, ConvTranspose, Gather, MatMul, Reshape
from mgc.ir.types import DType, TensorType
from mgc.passes.state import UnsupportedError


@dataclass(frozen=True)
class Samples:
    """Sets of graph inputs, each for one micro-batch; the inputs that are N(0,1) noise; what to warn of."""

    feeds: tuple[Mapping[str, np.ndarray], ...]
    noise: tuple[str, ...]
    warnings: tuple[str, ...]


def take_samples(graph: Graph, data: Mapping[str, np.ndarray], seed: int, count: int) -> Samples:
    """Up to `count` sets of inputs, from the user's arrays where there are any.

    `data` are arrays under the input names, samples along axis 0; other inputs are noise drawn with `seed`. Of arrays
    with more samples than needed, evenly spaced ones are taken. UnsupportedError: an array does not fit.
    """
    names = [v.name for v in graph.inputs]
    for name in data:
        if name not in names:
            raise UnsupportedError(f"calibration data: there is no input {name!r}; the inputs are {', '.join(names)}")
    columns: list[list[np.ndarray]] = []
    warnings: list[str] = []
    rng = np.random.default_rng(seed)
    for value in graph.inputs:
        if not isinstance(value.type, TensorType):
            raise UnsupportedError(f"input {value.name!r} is not a tensor of known shape: nothing to calibrate with")
        if value.name in data:
            columns.append(_cut(value, value.type, np.asarray(data[value.name]), count))
        else:
            columns.append(_draw(graph, value, value.type, count, rng, warnings))
            if data:
                warnings.append(f"calibration data has no array for input {value.name!r}: it was drawn")
    length = min((len(c) for c in columns), default=1)
    feeds = tuple({n: c[k] for n, c in zip(names, columns, strict=True)} for k in range(length))
    noise = tuple(v.name for v in graph.inputs if v.name not in data and v.tensor.dtype.is_float)
    warnings.extend(
        f"input {name!r} looks like an image and no data were given for it: scales were chosen on N(0,1) noise, which "
        "is unlike images, and quality on real ones may be poor; give --calibration with a folder of images (black to "
        "white as --image-range, -1,1 unless said), FILE.npy or X.npz"
        for name in takes_images(graph)
        if name in noise
    )
    return Samples(feeds, noise, tuple(warnings))


def takes_images(graph: Graph) -> list[str]:
    """The float inputs of rank 4 with 1 or 3 channels that a weighted op reads, if only through ops of inputs and
    constants. Noise that is added to feature maps is not read so.
    """
    roots = {v: {v} for v in graph.inputs}
    read: set[Value] = set()
    for node in graph.nodes:
        computed = [v for v in node.inputs if v not in graph.constants]
        if not computed or any(v not in roots for v in computed):
            continue
        reached = set().union(*(roots[v] for v in computed))
        if isinstance(node.op, Conv | ConvTranspose | MatMul):
            read |= reached
        else:
            roots.update(dict.fromkeys(node.outputs, reached))
    return [v.name for v in graph.inputs if v in read and _is_image(v)]


def _is_image(value: Value) -> bool:
    shape = value.shape
    if len(shape) != 4 or not value.tensor.dtype.is_float:
        return False
    return (shape[1] in (1, 3) and min(shape[2:]) > 1) or (shape[3] in (1, 3) and min(shape[1:3]) > 1)


def _cut(value: Value, type_: TensorType, array: np.ndarray, count: int) -> list[np.ndarray]:
    """The array, samples along axis 0, as operands of the input's shape."""
    where = f"calibration data for input {value.name!r}"
    if array.dtype == object or not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise UnsupportedError(f"{where} has element type {array.dtype}: numbers are needed")
    shape = type_.shape
    if array.ndim == len(shape) + 1 and array.shape[1:] == shape:
        array = array.reshape(-1, *shape[1:]) if shape else array
    if not shape:
        return [v.astype(type_.dtype.numpy) for v in array.reshape(-1)[:count]]
    if array.ndim != len(shape) or array.shape[1:] != shape[1:]:
        raise UnsupportedError(
            f"{where} has shape {list(array.shape)}: [samples, {str(list(shape[1:]))[1:-1]}] is needed"
        )
    parts = len(array) // shape[0] if shape[0] else 0
    if parts == 0:
        raise UnsupportedError(f"{where} has {len(array)} samples: at least {max(shape[0], 1)} are needed")
    if type_.dtype.is_float and not np.all(np.isfinite(array)):
        raise UnsupportedError(f"{where} has NaN or infinite entries: finite numbers are needed")
    chosen = np.unique(np.linspace(0, parts - 1, min(parts, count)).round().astype(np.int64))
    return [np.ascontiguousarray(array[k * shape[0] : (k + 1) * shape[0]], type_.dtype.numpy) for k in chosen]


def _draw(
    graph: Graph, value: Value, type_: TensorType, count: int, rng: np.random.Generator, warnings: list[str]
) -> list[np.ndarray]:
    if type_.dtype.is_float:
        return [rng.standard_normal(type_.shape, np.float32).astype(type_.dtype.numpy) for _ in range(count)]
    bound = 2 if type_.dtype is DType.BOOL else _index_bound(graph, value)
    warnings.append(
        f"input {value.name!r} is {type_.dtype.value} and no calibration data was given: "
        f"whole numbers in 0..{bound - 1} were drawn"
    )
    return [rng.integers(0, bound, type_.shape).astype(type_.dtype.numpy) for _ in range(count)]


def _index_bound(graph: Graph, value: Value) -> int:
    """How many entries the tables have that an integer input indexes; 2 if it indexes none."""
    reached, bounds = {value}, []
    for node in graph.nodes:
        if isinstance(node.op, Cast | Reshape) and node.inputs[0] in reached:
            reached.update(node.outputs)
        if isinstance(node.op, Gather) and node.inputs[1] in reached:
            bounds.append(node.inputs[0].shape[node.op.axis])
    return max(min(bounds, default=2), 1)
