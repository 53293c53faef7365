# SPDX-License-Identifier: Apache-2.0
"""Trains an MLP GAN on Fashion-MNIST and exports it with the dynamo exporter.

    python -m models.mlp_gan.make

Fully connected layers only, as in the first GANs (Goodfellow et al., arXiv 1406.2661).
"""

from pathlib import Path

import torch
from torch import nn

from models.adversarial import train
from models.export import arguments, export
from models.fashion import DEBIAN_FOLDER, load_images, to_unit
from models.grid import save_grid

LATENT = 64
PIXELS = 28 * 28


class Generator(nn.Module):
    """z [N, 64] -> image [N, 784] in -1..1: the rows of a 28x28 image, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(LATENT, 256),
            nn.LeakyReLU(0.2),
            nn.Linear(256, 512),
            nn.BatchNorm1d(512),
            nn.LeakyReLU(0.2),
            nn.Linear(512, PIXELS),
            nn.Tanh(),
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.layers(z)


class Discriminator(nn.Module):
    """image [N, 784] -> score [N, 1]: a logit, positive means real."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(PIXELS, 256),
            nn.LeakyReLU(0.2),
            nn.Linear(256, 128),
            nn.LeakyReLU(0.2),
            nn.Linear(128, 1),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layers(image)


def main() -> None:
    options = arguments(__doc__ or "", Path(__file__).parent, paths={"data": DEBIAN_FOLDER}, epochs=15)
    images = to_unit(load_images(options.data)).flatten(1)
    generator, discriminator = Generator(), Discriminator()
    train(generator, discriminator, images, latent=(LATENT,), epochs=options.epochs)

    noise = torch.randn(80, LATENT, generator=torch.Generator().manual_seed(1))
    for exported in (
        export(generator, options.out / "mlp_gan_G.onnx", noise[:4], input_name="z", output_name="image"),
        export(discriminator, options.out / "mlp_gan_D.onnx", images[:4], input_name="image", output_name="score"),
    ):
        print(exported)
    with torch.no_grad():
        save_grid(generator(noise).reshape(-1, 1, 28, 28), options.out / "samples.png", columns=10)


if __name__ == "__main__":
    main()
