# SPDX-License-Identifier: Apache-2.0
"""Trains a network of ESRGAN's blocks to double the size of Fashion-MNIST's images, and exports it.

    python -m models.upscaler.make

One residual-in-residual dense block of `models.esrgan_rrdb`, 16 channels growing by 8; the loss is
L1, as in the first half of ESRGAN's own training. The small images are means of 2x2 pixels.
"""

import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from models.esrgan_rrdb.make import ResidualDenseBlocks, initialise
from models.export import arguments, export
from models.fashion import DEBIAN_FOLDER, load_images, to_unit

WIDTH = 16
GROWTH = 8


class Upscaler(nn.Module):
    """low [N, 1, H, W] -> high [N, 1, 2H, 2W] in about -1..1; exported for H = W = 14."""

    def __init__(self, width: int = WIDTH, growth: int = GROWTH) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, 1, 1)
        self.trunk = ResidualDenseBlocks(width, growth)
        self.trunk_end = nn.Conv2d(width, width, 3, 1, 1)
        self.up = nn.Conv2d(width, width, 3, 1, 1)
        self.before_last = nn.Conv2d(width, width, 3, 1, 1)
        self.last = nn.Conv2d(width, 1, 3, 1, 1)

    def forward(self, low: torch.Tensor) -> torch.Tensor:
        x = self.first(low)
        x = x + self.trunk_end(self.trunk(x))
        x = functional.leaky_relu(self.up(functional.interpolate(x, scale_factor=2.0, mode="nearest")), 0.2)
        return self.last(functional.leaky_relu(self.before_last(x), 0.2))


def halve(images: torch.Tensor) -> torch.Tensor:
    """[N, 1, H, W] -> [N, 1, H/2, W/2], means of 2x2 pixels."""
    return functional.avg_pool2d(images, 2)


def main() -> None:
    options = arguments(__doc__ or "", Path(__file__).parent, paths={"data": DEBIAN_FOLDER}, epochs=2)
    images = load_images(options.data).unsqueeze(1)[:6400]
    network = Upscaler().apply(initialise)
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    start = time.perf_counter()
    for epoch in range(1, options.epochs + 1):
        total = 0.0
        batches = torch.randperm(len(images)).split(16)[: len(images) // 16]
        for batch in batches:
            high = to_unit(images[batch])
            loss = functional.l1_loss(network(halve(high)), high)
            adam.zero_grad()
            loss.backward()
            adam.step()
            total += loss.item()
        print(
            f"epoch {epoch}/{options.epochs}: L1 {total / len(batches):.4f}, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
    held_out = to_unit(load_images(options.data, split="t10k").unsqueeze(1)[:64])
    low = halve(held_out)
    print(export(network, options.out / "upscaler_x2.onnx", low[:4], input_name="low", output_name="high"))
    with torch.no_grad():
        learned, copied = network(low), functional.interpolate(low, scale_factor=2.0, mode="bicubic")
    print(
        f"held-out images: L1 {(learned - held_out).abs().mean():.4f}, bicubic {(copied - held_out).abs().mean():.4f}"
    )
    np.savez_compressed(options.out / "images.npz", low=low.numpy())


if __name__ == "__main__":
    main()
