# SPDX-License-Identifier: Apache-2.0
"""Exports a CycleGAN ResNet generator with both exporters. It is not trained.

    python -m models.cyclegan_resnet.make

The layers are those of Zhu et al., "Unpaired Image-to-Image Translation using Cycle-Consistent
Adversarial Networks" (arXiv 1703.10593), narrowed: 16 channels instead of 64, four residual blocks
instead of nine, 64x64 images. InstanceNorm takes its statistics from the image itself, so random
weights already give activations of a sane range.
"""

from pathlib import Path

import torch
from torch import nn

from models.export import arguments, export_both

WIDTH = 16
BLOCKS = 4


class ResidualBlock(nn.Module):
    """[N, C, H, W] -> [N, C, H, W]: two reflection-padded 3x3 convolutions around a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


class Generator(nn.Module):
    """source [N, 3, 64, 64] in -1..1 -> image [N, 3, 64, 64] in -1..1."""

    def __init__(self, width: int = WIDTH, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(3, width, 7),  # 64x64
            nn.InstanceNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1),  # 32x32
            nn.InstanceNorm2d(2 * width),
            nn.ReLU(),
            nn.Conv2d(2 * width, 4 * width, 3, 2, 1),  # 16x16
            nn.InstanceNorm2d(4 * width),
            nn.ReLU(),
            *(ResidualBlock(4 * width) for _ in range(blocks)),
            nn.ConvTranspose2d(4 * width, 2 * width, 3, 2, 1, output_padding=1),  # 32x32
            nn.InstanceNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 3, 2, 1, output_padding=1),  # 64x64
            nn.InstanceNorm2d(width),
            nn.ReLU(),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, 3, 7),
            nn.Tanh(),
        )

    def forward(self, source: torch.Tensor) -> torch.Tensor:
        return self.layers(source)


def initialise(module: nn.Module) -> None:
    """The paper's N(0, 0.02) weights. Biases keep PyTorch's random ones, to have some to fold."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)


def main() -> None:
    options = arguments(__doc__ or "", Path(__file__).parent)
    generator = Generator().apply(initialise)
    source = torch.rand(4, 3, 64, 64) * 2 - 1
    stem = options.out / "cyclegan_resnet_G"
    for exported in export_both(generator, stem, source, input_name="source", output_name="image"):
        print(exported)


if __name__ == "__main__":
    main()
