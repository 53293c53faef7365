# SPDX-License-Identifier: Apache-2.0
"""Trains a DCGAN on Fashion-MNIST and exports both networks with both exporters.

    python -m models.dcgan_fashion.make

The architecture is that of Radford, Metz and Chintala, "Unsupervised Representation Learning with
Deep Convolutional Generative Adversarial Networks" (arXiv 1511.06434), for 32x32 grey images; the
recipe (N(0, 0.02) weights, Adam 2e-4 with betas 0.5 and 0.999, batch 64) is theirs as well.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.adversarial import train
from models.export import arguments, export, export_both
from models.fashion import DEBIAN_FOLDER, load_images, pad_to_32, to_unit
from models.grid import save_grid

LATENT = 100
WIDTH = 40  # channels at 16x16; doubled at 8x8 and again at 4x4


class Generator(nn.Module):
    """z [N, 100, 1, 1] -> image [N, 1, 32, 32] in -1..1."""

    def __init__(self, latent: int = LATENT, width: int = WIDTH) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(latent, 4 * width, 4, 1, 0, bias=False),  # 4x4
            nn.BatchNorm2d(4 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False),  # 8x8
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),  # 16x16
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, 2, 1),  # 32x32
            nn.Tanh(),
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.layers(z)


class Discriminator(nn.Module):
    """image [N, 1, 32, 32] -> score [N, 1]: a logit, positive means real. No sigmoid inside."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1),  # 16x16
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),  # 8x8
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1, bias=False),  # 4x4
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 4, 1, 0),  # 1x1
            nn.Flatten(),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layers(image)


def initialise(module: nn.Module) -> None:
    """The paper's initialisation: N(0, 0.02) weights, N(1, 0.02) BatchNorm scales, zero biases."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def main() -> None:
    options = arguments(__doc__ or "", Path(__file__).parent, paths={"data": DEBIAN_FOLDER}, epochs=15)
    images = pad_to_32(load_images(options.data))
    # channels_last halves the time of a step on a CPU.
    generator = Generator().apply(initialise).to(memory_format=torch.channels_last)
    discriminator = Discriminator().apply(initialise).to(memory_format=torch.channels_last)
    train(
        generator,
        discriminator,
        images,
        latent=(LATENT, 1, 1),
        epochs=options.epochs,
        prepare=to_unit,
    )

    noise = torch.randn(80, LATENT, 1, 1, generator=torch.Generator().manual_seed(1))
    held_out = to_unit(pad_to_32(load_images(options.data, split="t10k")[:64]))
    stem_g, stem_d = options.out / "dcgan_fashion_G", options.out / "dcgan_fashion_D"
    names_d = {"input_name": "image", "output_name": "score"}
    for exported in (
        *export_both(generator, stem_g, noise[:4], input_name="z", output_name="image"),
        *export_both(discriminator, stem_d, held_out[:4], **names_d),
        export(
            discriminator,
            options.out / "dcgan_fashion_D_ts_bn.onnx",
            held_out[:4],
            exporter="torchscript",
            keep_batchnorm=True,
            **names_d,
        ),
    ):
        print(exported)
    with torch.no_grad():
        save_grid(generator(noise), options.out / "samples.png", columns=10)
        real, fake = discriminator(held_out), discriminator(generator(noise[:64]))
    print(f"held-out images scored real: {(real > 0).float().mean():.0%}, samples: {(fake > 0).float().mean():.0%}")
    np.savez_compressed(options.out / "calibration_D.npz", image=held_out.numpy())


if __name__ == "__main__":
    main()
