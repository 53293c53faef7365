# SPDX-License-Identifier: Apache-2.0
"""What the zoo's scripts are made of: small networks, and losses with a number as the target."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.zoo.networks import SIZE

F = nn.functional


def bce(scores: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, target))


def mse(x: Tensor, target: float) -> Tensor:
    return F.mse_loss(x, torch.full_like(x, target))


def mlp(*sizes: int, last: nn.Module | None = None) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1], *([last] if last else []))


class Picture(nn.Module):
    """x [N, size] -> image [N, 1, 16, 16] in -1..1."""

    def __init__(self, size: int, hidden: int = 16) -> None:
        super().__init__()
        self.net = mlp(size, hidden, SIZE * SIZE, last=nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).view(-1, 1, SIZE, SIZE)


class Judge(nn.Module):
    """image [N, 1, 16, 16] (and more [N, size]) -> scores [N, results]."""

    def __init__(self, size: int = 0, results: int = 1, hidden: int = 16, *, last_bias: bool = True) -> None:
        super().__init__()
        self.net = mlp(SIZE * SIZE + size, hidden, results)
        if not last_bias:
            self.net[2] = nn.Linear(hidden, results, bias=False)

    def forward(self, image: Tensor, *more: Tensor) -> Tensor:
        return self.net(torch.cat([image.flatten(1), *more], 1))


def convolutions(norm=lambda layer: layer, channels: int = 1) -> nn.Sequential:
    """image [N, channels, 16, 16] -> score [N, 1], every layer as `norm` has it."""
    return nn.Sequential(
        norm(nn.Conv2d(channels, 6, 4, 2, 1)),
        nn.LeakyReLU(0.2),
        norm(nn.Conv2d(6, 8, 4, 2, 1)),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        norm(nn.Linear(8 * 4 * 4, 1)),
    )
