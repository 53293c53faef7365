# SPDX-License-Identifier: Apache-2.0
"""Trains a GAN whose generator is 25 layers deep on Fashion-MNIST, and exports the generator.

    python -m models.deep_gan.make

A plain chain without skips, so that what 8 bits do wrong in one layer passes all later ones: one
linear layer, 23 3x3 convolutions with BatchNorm and LeakyReLU at 4x4 to 32x32, and a last one.
"""

from pathlib import Path

import torch
from torch import nn

from models.adversarial import train
from models.dcgan_fashion.make import Discriminator, initialise
from models.export import arguments, export
from models.fashion import DEBIAN_FOLDER, load_images, pad_to_32, to_unit
from models.grid import save_grid

LATENT = 24
WIDTHS = (20, 18, 16, 12)
"""Channels at 4x4, 8x8, 16x16 and 32x32."""
LAYERS = (5, 6, 6, 6)
"""Convolutions at each of these sizes."""


class Generator(nn.Module):
    """z [N, 24] -> image [N, 1, 32, 32] in -1..1."""

    def __init__(self, latent: int = LATENT) -> None:
        super().__init__()
        width = WIDTHS[0]
        layers: list[nn.Module] = [
            nn.Linear(latent, width * 16),
            nn.Unflatten(1, (width, 4, 4)),
            nn.BatchNorm2d(width),
            nn.LeakyReLU(0.2),
        ]
        for stage, (channels, count) in enumerate(zip(WIDTHS, LAYERS, strict=True)):
            if stage:
                layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
            for _ in range(count):
                layers += [nn.Conv2d(width, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.LeakyReLU(0.2)]
                width = channels
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 3, 1, 1), nn.Tanh())

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.layers(z)


def spread(module: nn.Module) -> None:
    """He's N(0, 2/fan_in) weights; BatchNorm as PyTorch has it."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, a=0.2)


def main() -> None:
    options = arguments(__doc__ or "", Path(__file__).parent, paths={"data": DEBIAN_FOLDER}, epochs=6)
    images = pad_to_32(load_images(options.data)[:6400])
    generator = Generator().apply(spread).to(memory_format=torch.channels_last)
    discriminator = Discriminator(width=16).apply(initialise).to(memory_format=torch.channels_last)
    train(
        generator,
        discriminator,
        images,
        latent=(LATENT,),
        epochs=options.epochs,
        batch_size=32,
        learning_rate=5e-4,
        prepare=to_unit,
    )
    noise = torch.randn(80, LATENT, generator=torch.Generator().manual_seed(1))
    path = options.out / "deep_gan_G.onnx"
    print(export(generator, path, noise[:4], input_name="z", output_name="image"))
    with torch.no_grad():
        save_grid(generator(noise), options.out / "samples.png", columns=10)


if __name__ == "__main__":
    main()
