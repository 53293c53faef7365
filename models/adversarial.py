# SPDX-License-Identifier: Apache-2.0
"""The plain GAN training loop that the scripts with a noise input share."""

import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits


def train(
    generator: nn.Module,
    discriminator: nn.Module,
    samples: torch.Tensor,
    *,
    latent: tuple[int, ...],
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 2e-4,
    prepare: Callable[[torch.Tensor], torch.Tensor] = lambda batch: batch,
) -> None:
    """Alternates one discriminator step and one generator step a batch.

    `samples` is [count, ...]; `prepare` turns a batch of it into what the generator imitates.
    `latent` is the shape of one noise vector. `discriminator` gives logits [N, 1]. The loss is
    binary cross-entropy (the generator's is the non-saturating one), the optimiser Adam with betas
    0.5 and 0.999. Real and fake batches pass the discriminator separately; the generator step
    reuses the fakes of the discriminator step. An incomplete last batch is left out.
    """
    adam_g = torch.optim.Adam(generator.parameters(), lr=learning_rate, betas=(0.5, 0.999))
    adam_d = torch.optim.Adam(discriminator.parameters(), lr=learning_rate, betas=(0.5, 0.999))
    ones, zeros = torch.ones(batch_size, 1), torch.zeros(batch_size, 1)
    start = time.perf_counter()
    for epoch in range(1, epochs + 1):
        total_d = total_g = 0.0
        batches = torch.randperm(len(samples)).split(batch_size)[: len(samples) // batch_size]
        for batch in batches:
            real = prepare(samples[batch])
            fake = generator(torch.randn(batch_size, *latent))

            loss_d = binary_cross_entropy_with_logits(discriminator(real), ones)
            loss_d = loss_d + binary_cross_entropy_with_logits(discriminator(fake.detach()), zeros)
            adam_d.zero_grad()
            loss_d.backward()
            adam_d.step()

            loss_g = binary_cross_entropy_with_logits(discriminator(fake), ones)
            adam_g.zero_grad()
            loss_g.backward()
            adam_g.step()

            total_d += loss_d.item()
            total_g += loss_g.item()
        print(
            f"epoch {epoch}/{epochs}: loss_d {total_d / len(batches):.3f}, "
            f"loss_g {total_g / len(batches):.3f}, {time.perf_counter() - start:.0f} s",
            flush=True,
        )
