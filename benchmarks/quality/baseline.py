# SPDX-License-Identifier: Apache-2.0
"""The same training in PyTorch float32, as a user's script does it, on the very batches that `mgc train` gets.

What `mgc compile G.onnx --discriminator D.onnx --loss bce --optimizer adam` compiles: the discriminator's step on real
and fake samples, then the generator's against the updated discriminator with the same noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mgc.training.data.assign import feeder
from mgc.training.data.feeding import Feeder
from mgc.training.trainee import TraineeInput

softplus = torch.nn.functional.softplus


class Gan:
    """Generator, discriminator and their optimizers."""

    def __init__(
        self, generator: nn.Module, discriminator: nn.Module, lr: float, betas: tuple[float, float] = (0.5, 0.999)
    ) -> None:
        # channels_last halves the time of a step on a CPU.
        self.generator, self.discriminator = generator, discriminator
        self.ready()
        self._adam_g = torch.optim.Adam(generator.parameters(), lr, betas)
        self._adam_d = torch.optim.Adam(discriminator.parameters(), lr, betas)

    def ready(self) -> None:
        """Makes the networks ready to be trained, or to be trained on after an export."""
        for network in (self.generator, self.discriminator):
            network.to(memory_format=torch.channels_last).train()

    def step(self, x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One iteration on real samples x [N, 1, 32, 32] and noise z [N, latent, 1, 1]; the two losses."""
        fake = self.generator(z)
        loss_d = softplus(-self.discriminator(x)).mean() + softplus(self.discriminator(fake.detach())).mean()
        self._adam_d.zero_grad()
        loss_d.backward()
        self._adam_d.step()
        loss_g = softplus(-self.discriminator(fake)).mean()
        self._adam_g.zero_grad()
        loss_g.backward()
        self._adam_g.step()
        return loss_d.detach(), loss_g.detach()


def batches(data: Path, batch: int, latent: int, steps: int, seed: int) -> Feeder:
    """What `mgc train --data DATA --seed SEED` feeds to inputs x and z."""
    inputs = (
        TraineeInput("z", (batch, latent, 1, 1), np.dtype(np.float32), "noise"),
        TraineeInput("x", (batch, 1, 32, 32), np.dtype(np.float32), "data"),
    )
    return feeder(inputs, 1, steps, seed, data, {})


def train(
    gan: Gan, feeds: Feeder, steps: int, after: Callable[[int, Mapping[str, float]], None] = lambda step, losses: None
) -> None:
    """Trains for `steps` iterations; `after` hears of each one, the first being 1."""
    for number in range(steps):
        (feed,) = feeds.iteration(number)
        x = torch.from_numpy(feed["x"]).contiguous(memory_format=torch.channels_last)
        loss_d, loss_g = gan.step(x, torch.from_numpy(feed["z"]))
        after(number + 1, {"loss_d": loss_d.item(), "loss_g": loss_g.item()})
