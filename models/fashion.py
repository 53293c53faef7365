# SPDX-License-Identifier: Apache-2.0
"""Fashion-MNIST (Zalando SE, MIT licence) as the Debian package dataset-fashion-mnist installs it."""

import gzip
from pathlib import Path

import numpy as np
import torch

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


def load_images(folder: Path = DEBIAN_FOLDER, *, split: str = "train") -> torch.Tensor:
    """Returns the images of `split` ("train": 60,000, "t10k": 10,000) as uint8 [count, 28, 28]."""
    path = folder / f"{split}-images-idx3-ubyte.gz"
    if not path.is_file():
        raise SystemExit(
            f"Fashion-MNIST is not there: {path} is missing. Install the Debian package "
            "dataset-fashion-mnist, or give the folder with the four *-ubyte.gz files as --data."
        )
    raw = gzip.decompress(path.read_bytes())
    magic, count, height, width = (int(word) for word in np.frombuffer(raw, ">u4", count=4))
    if magic != 0x803 or len(raw) != 16 + count * height * width:
        raise SystemExit(
            f"{path} is no IDX image file (magic {magic:#x}, {len(raw)} bytes for {count} images of "
            f"{height}x{width}): reinstall the Debian package dataset-fashion-mnist."
        )
    pixels = np.frombuffer(raw, np.uint8, offset=16).reshape(count, height, width)
    return torch.from_numpy(pixels.copy())


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 0..255 -> float32 -1..1, the range of tanh."""
    return images.float() / 127.5 - 1.0


def pad_to_32(images: torch.Tensor) -> torch.Tensor:
    """uint8 [N, 28, 28] -> uint8 [N, 1, 32, 32], with two black pixels on each side."""
    return torch.nn.functional.pad(images.unsqueeze(1), (2, 2, 2, 2))
