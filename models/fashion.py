# SPDX-License-Identifier: Apache-2.0
"""Fashion-MNIST (Zalando SE, MIT licence) as the Debian package dataset-fashion-mnist installs it."""

import gzip
import math
from pathlib import Path

import numpy as np
import torch

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


def load_images(folder: Path = DEBIAN_FOLDER, *, split: str = "train") -> torch.Tensor:
    """Returns the images of `split` ("train": 60,000, "t10k": 10,000) as uint8 [count, 28, 28]."""
    return torch.from_numpy(_idx(folder / f"{split}-images-idx3-ubyte.gz", 3))


def load_labels(folder: Path = DEBIAN_FOLDER, *, split: str = "train") -> torch.Tensor:
    """Returns the classes of the images of `split` as int64 [count], 0 to 9."""
    return torch.from_numpy(_idx(folder / f"{split}-labels-idx1-ubyte.gz", 1)).long()


def _idx(path: Path, rank: int) -> np.ndarray:
    """The bytes of a gzipped IDX file, as an array of `rank` axes."""
    if not path.is_file():
        raise SystemExit(
            f"Fashion-MNIST is not there: {path} is missing. Install the Debian package "
            "dataset-fashion-mnist, or give the folder with the four *-ubyte.gz files as --data."
        )
    raw = gzip.decompress(path.read_bytes())
    magic, *shape = (int(word) for word in np.frombuffer(raw, ">u4", count=1 + rank))
    head = 4 * (1 + rank)
    if magic != 0x800 + rank or len(raw) != head + math.prod(shape):
        raise SystemExit(
            f"{path} is no IDX file of bytes with {rank} axes (magic {magic:#x}, {len(raw)} bytes for {shape}): "
            "reinstall the Debian package dataset-fashion-mnist."
        )
    return np.frombuffer(raw, np.uint8, offset=head).reshape(shape).copy()


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 0..255 -> float32 -1..1, the range of tanh."""
    return images.float() / 127.5 - 1.0


def pad_to_32(images: torch.Tensor) -> torch.Tensor:
    """uint8 [N, 28, 28] -> uint8 [N, 1, 32, 32], with two black pixels on each side."""
    return torch.nn.functional.pad(images.unsqueeze(1), (2, 2, 2, 2))
