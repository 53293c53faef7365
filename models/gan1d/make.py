# SPDX-License-Identifier: Apache-2.0
"""Trains a WaveGAN-style 1-D GAN on synthetic tones and exports it with the dynamo exporter.

    python -m models.gan1d.make

The layers are those of Donahue, McAuley and Puckette, "Adversarial Audio Synthesis" (arXiv
1802.04208), narrowed and shortened to waveforms of 1024 samples, without phase shuffle. The data
are made here, from the seed: tones of a few harmonics that swell and fade.
"""

import math
from pathlib import Path

import torch
from torch import nn

from models.adversarial import train
from models.export import arguments, export
from models.grid import save_plots

LATENT = 64
WIDTH = 24  # channels at 256 positions; doubled at 64 and again at 16
LENGTH = 1024
TONES = 8192


class Generator(nn.Module):
    """z [N, 64] -> wave [N, 1, 1024] in -1..1."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.channels = 4 * width
        self.project = nn.Linear(LATENT, 16 * self.channels)
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.ConvTranspose1d(4 * width, 2 * width, 25, 4, 11, output_padding=1),  # 64
            nn.ReLU(),
            nn.ConvTranspose1d(2 * width, width, 25, 4, 11, output_padding=1),  # 256
            nn.ReLU(),
            nn.ConvTranspose1d(width, 1, 25, 4, 11, output_padding=1),  # 1024
            nn.Tanh(),
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.layers(self.project(z).reshape(-1, self.channels, 16))


class Discriminator(nn.Module):
    """wave [N, 1, 1024] -> score [N, 1]: a logit, positive means real."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, width, 25, 4, 11),  # 256
            nn.LeakyReLU(0.2),
            nn.Conv1d(width, 2 * width, 25, 4, 11),  # 64
            nn.LeakyReLU(0.2),
            nn.Conv1d(2 * width, 4 * width, 25, 4, 11),  # 16
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(16 * 4 * width, 1),
        )

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        return self.layers(wave)


def tones(count: int) -> torch.Tensor:
    """Returns [count, 1, 1024] in -1..1: 4 to 16 periods of 3 harmonics under a Gaussian envelope."""
    time = torch.linspace(0.0, 1.0, LENGTH)
    periods = 4.0 * 4.0 ** torch.rand(count, 1)
    wave = torch.zeros(count, LENGTH)
    for harmonic in (1, 2, 3):
        strength = torch.rand(count, 1) / harmonic
        phase = 2 * math.pi * torch.rand(count, 1)
        wave += strength * torch.sin(2 * math.pi * harmonic * periods * time + phase)
    middle, spread = 0.3 + 0.4 * torch.rand(count, 1), 0.1 + 0.15 * torch.rand(count, 1)
    wave *= torch.exp(-0.5 * ((time - middle) / spread) ** 2)
    return (0.9 * wave / wave.abs().amax(1, keepdim=True)).unsqueeze(1)


def main() -> None:
    # PyTorch's transposed 1-D convolution is slower with two threads than with one.
    options = arguments(__doc__ or "", Path(__file__).parent, threads=1, epochs=12)
    waves = tones(TONES)
    generator, discriminator = Generator(), Discriminator()
    train(generator, discriminator, waves, latent=(LATENT,), epochs=options.epochs)

    noise = torch.randn(8, LATENT, generator=torch.Generator().manual_seed(1))
    for exported in (
        export(generator, options.out / "gan1d_G.onnx", noise, input_name="z", output_name="wave"),
        export(discriminator, options.out / "gan1d_D.onnx", waves[:4], input_name="wave", output_name="score"),
    ):
        print(exported)
    with torch.no_grad():
        save_plots(torch.cat([waves[:8], generator(noise)], 1).flatten(0, 1), options.out / "samples.png", columns=2)


if __name__ == "__main__":
    main()
