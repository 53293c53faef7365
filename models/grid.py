# SPDX-License-Identifier: Apache-2.0
"""Draws a batch of images as one PNG."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image


def save_grid(images: torch.Tensor, path: Path, *, columns: int) -> None:
    """Writes float [N, 1 or 3, H, W] in -1..1 as a PNG, `columns` images a row, without gaps."""
    count, channels, height, width = images.shape
    if count % columns:
        raise ValueError(f"{path.name}: {count} images do not fill rows of {columns}")
    grid = images.detach().reshape(count // columns, columns, channels, height, width)
    pixels = grid.permute(0, 3, 1, 4, 2).reshape(count // columns * height, columns * width, channels)
    levels = ((pixels + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
    Image.fromarray(np.ascontiguousarray(levels[..., 0] if channels == 1 else levels)).save(path)


def save_plots(waves: torch.Tensor, path: Path, *, columns: int) -> None:
    """Writes float [count, length] in -1..1 as a PNG of curves, each 256 wide and 64 high."""
    count, length = waves.shape
    width, height = 256, 64
    chunks = waves.detach().reshape(count, width, length // width)
    level = torch.arange(height - 1, -1, -1).reshape(1, height, 1)
    low, high = (((edge + 1.0) / 2.0 * (height - 1)).round().unsqueeze(1) for edge in (chunks.amin(2), chunks.amax(2)))
    curves = torch.where((level >= low) & (level <= high), 1.0, -1.0)
    save_grid(curves.unsqueeze(1), path, columns=columns)
