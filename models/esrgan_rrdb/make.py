# SPDX-License-Identifier: Apache-2.0
"""Exports an ESRGAN-style super-resolution generator with both exporters. It is not trained.

    python -m models.esrgan_rrdb.make

The blocks are those of Wang et al., "ESRGAN: Enhanced Super-Resolution Generative Adversarial
Networks" (arXiv 1809.00219), narrowed: 24 channels growing by 12 instead of 64 by 32, two
residual-in-residual dense blocks instead of 23, 16x16 -> 64x64.
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from models.export import arguments, export_both

WIDTH = 24
GROWTH = 12
BLOCKS = 2


class DenseBlock(nn.Module):
    """[N, C, H, W] -> [N, C, H, W]: five 3x3 convolutions, each reading all that came before it."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(width + i * growth, growth if i < 4 else width, 3, 1, 1) for i in range(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = [x]
        for conv in self.convs[:-1]:
            seen.append(functional.leaky_relu(conv(torch.cat(seen, 1)), 0.2))
        return x + 0.2 * self.convs[-1](torch.cat(seen, 1))


class ResidualDenseBlocks(nn.Module):
    """RRDB, [N, C, H, W] -> [N, C, H, W]: three dense blocks with one more scaled skip around them."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(DenseBlock(width, growth) for _ in range(3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.2 * self.layers(x)


class Generator(nn.Module):
    """low [N, 3, H, W] -> high [N, 3, 4H, 4W]; exported for H = W = 16. No activation at the end."""

    def __init__(self, width: int = WIDTH, growth: int = GROWTH, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, 1, 1)
        self.trunk = nn.Sequential(*(ResidualDenseBlocks(width, growth) for _ in range(blocks)))
        self.trunk_end = nn.Conv2d(width, width, 3, 1, 1)
        self.up1 = nn.Conv2d(width, width, 3, 1, 1)
        self.up2 = nn.Conv2d(width, width, 3, 1, 1)
        self.before_last = nn.Conv2d(width, width, 3, 1, 1)
        self.last = nn.Conv2d(width, 3, 3, 1, 1)

    def forward(self, low: torch.Tensor) -> torch.Tensor:
        x = self.first(low)
        x = x + self.trunk_end(self.trunk(x))
        x = functional.leaky_relu(self.up1(functional.interpolate(x, scale_factor=2.0, mode="nearest")), 0.2)
        x = functional.leaky_relu(self.up2(functional.interpolate(x, scale_factor=2.0, mode="nearest")), 0.2)
        return self.last(functional.leaky_relu(self.before_last(x), 0.2))


def initialise(module: nn.Module) -> None:
    """He's N(0, 2/fan_in): without a normalisation layer, this keeps the activations' range."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, a=0.2)


def main() -> None:
    options = arguments(__doc__ or "", Path(__file__).parent)
    generator = Generator().apply(initialise)
    low = torch.rand(4, 3, 16, 16)
    stem = options.out / "esrgan_rrdb_G"
    for exported in export_both(generator, stem, low, input_name="low", output_name="high"):
        print(exported)


if __name__ == "__main__":
    main()
