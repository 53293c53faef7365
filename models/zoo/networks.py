# SPDX-License-Identifier: Apache-2.0
"""The zoo's networks in PyTorch: images of 16x16 pixels and few channels, so that a simulated chip is quick."""

import torch
from torch import nn

NOISE = 16
SIZE = 16


class MlpGenerator(nn.Module):
    """z [N, 16] -> image [N, 1, 16, 16] in -1..1."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(NOISE, 32), nn.LeakyReLU(0.2), nn.Linear(32, SIZE * SIZE), nn.Tanh())

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.net(z).view(-1, 1, SIZE, SIZE)


class MlpDiscriminator(nn.Module):
    """image [N, 1, 16, 16] -> score [N, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net(image)


class DcganGenerator(nn.Module):
    """z [N, 16, 1, 1] -> image [N, 1, 16, 16]: transposed convolutions and BatchNorm, as DCGAN's."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.ConvTranspose2d(NOISE, 16, 4, 1, 0, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 8, 4, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.ConvTranspose2d(8, 1, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.net(z)


class DcganDiscriminator(nn.Module):
    """image [N, 1, 16, 16] -> score [N, 1]: strided convolutions and BatchNorm, as DCGAN's."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(8, 16, 4, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.LeakyReLU(0.2),
            nn.Conv2d(16, 1, 4, 1, 0, bias=False),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net(image).view(-1, 1)


class Critic(nn.Module):
    """image [N, 1, 16, 16] -> score [N, 1]: without any normalisation, of batches or of spectra."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(8, 16, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(16 * 4 * 4, 1),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net(image)


class UNet(nn.Module):
    """sketch [N, 1, 16, 16] -> image [N, 1, 16, 16]: Pix2Pix's generator, two levels with a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(1, 8, 4, 2, 1)
        self.down2 = nn.Conv2d(8, 16, 4, 2, 1)
        self.norm = nn.InstanceNorm2d(16)
        self.up2 = nn.ConvTranspose2d(16, 8, 4, 2, 1)
        self.up1 = nn.ConvTranspose2d(16, 1, 4, 2, 1)

    def forward(self, sketch: torch.Tensor) -> torch.Tensor:
        outer = self.down1(sketch)
        inner = self.norm(self.down2(nn.functional.leaky_relu(outer, 0.2)))
        back = self.up2(torch.relu(inner))
        return torch.tanh(self.up1(torch.relu(torch.cat([back, outer], 1))))


class Translator(nn.Module):
    """image [N, 1, 16, 16] -> image of another kind: CycleGAN's generator with one residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.InstanceNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.InstanceNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))
        self.tail = nn.Sequential(nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Tanh())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        h = self.head(image)
        return self.tail(h + self.block(h))


class Patches(nn.Module):
    """image [N, channels, 16, 16] -> scores [N, 1, 7, 7], one for each patch: PatchGAN."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(channels, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 4, 1, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net(image)
