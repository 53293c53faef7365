# SPDX-License-Identifier: Apache-2.0
"""The GAN of the experiment: the DCGAN of models/dcgan_fashion, narrower, before training.

A seed gives the initial weights, the same for PyTorch and, exported, for mgc.
"""

from pathlib import Path

import torch

from models.dcgan_fashion.make import Discriminator, Generator, initialise
from models.export import export

LATENT = 64
WIDTH = 16
"""Channels at 16x16, doubled at 8x8 and 4x4: 106,977 weights in the generator, 42,449 in the discriminator."""


def networks(seed: int, width: int = WIDTH, latent: int = LATENT) -> tuple[Generator, Discriminator]:
    """The generator (z [N, latent, 1, 1] -> [N, 1, 32, 32]) and the discriminator (-> a logit [N, 1])."""
    torch.manual_seed(seed)
    return Generator(latent, width).apply(initialise), Discriminator(width).apply(initialise)


def export_networks(folder: Path, seed: int, width: int = WIDTH, latent: int = LATENT) -> tuple[Path, Path]:
    """Writes G.onnx and D.onnx, with every BatchNorm as a node of its own, and gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    generator, discriminator = networks(seed, width, latent)
    paths = folder / "G.onnx", folder / "D.onnx"
    noise, images = torch.zeros(2, latent, 1, 1), torch.zeros(2, 1, 32, 32)
    how = {"exporter": "torchscript", "keep_batchnorm": True}
    export(generator, paths[0], noise, input_name="z", output_name="image", **how)
    export(discriminator, paths[1], images, input_name="x", output_name="score", **how)
    return paths
