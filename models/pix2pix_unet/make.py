# SPDX-License-Identifier: Apache-2.0
"""Trains a small Pix2Pix U-Net (edges -> garment) and exports it with both exporters.

    python -m models.pix2pix_unet.make

The layers and the loss (PatchGAN + 100 L1) are those of Isola et al., "Image-to-Image Translation
with Conditional Adversarial Networks" (arXiv 1611.07004), for 64x64 images and narrowed from 64
channels to 12. The pairs are made from Fashion-MNIST: a Sobel edge map, and the image enlarged to
56x56, padded to 64x64 and tinted from dark blue over ochre to white, so that the channels differ.
"""

import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from models.export import arguments, export_both
from models.fashion import DEBIAN_FOLDER, load_images
from models.grid import save_grid

WIDTH = 12
BATCH = 16


class Down(nn.Module):
    """[N, Cin, H, W] -> [N, Cout, H/2, W/2]."""

    def __init__(self, cin: int, cout: int, *, first: bool = False, norm: bool = True) -> None:
        super().__init__()
        self.act = nn.Identity() if first else nn.LeakyReLU(0.2)
        self.conv = nn.Conv2d(cin, cout, 4, 2, 1, bias=not norm)
        self.norm = nn.BatchNorm2d(cout) if norm else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(self.act(x)))


class Up(nn.Module):
    """[N, Cin, H, W] -> [N, Cout, 2H, 2W]."""

    def __init__(self, cin: int, cout: int, *, dropout: bool = False) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(cin, cout, 4, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(cout)
        self.dropout = nn.Dropout(0.5) if dropout else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.norm(self.conv(functional.relu(x))))


class Generator(nn.Module):
    """edges [N, 3, 64, 64] in -1..1 -> image [N, 3, 64, 64] in -1..1, through a 1x1 bottleneck."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        w = width
        self.down1 = Down(3, w, first=True, norm=False)  # 32x32
        self.down2 = Down(w, 2 * w)  # 16x16
        self.down3 = Down(2 * w, 4 * w)  # 8x8
        self.down4 = Down(4 * w, 4 * w)  # 4x4
        self.down5 = Down(4 * w, 4 * w)  # 2x2
        self.down6 = Down(4 * w, 4 * w, norm=False)  # 1x1
        self.up6 = Up(4 * w, 4 * w, dropout=True)  # 2x2
        self.up5 = Up(8 * w, 4 * w, dropout=True)  # 4x4
        self.up4 = Up(8 * w, 4 * w)  # 8x8
        self.up3 = Up(8 * w, 2 * w)  # 16x16
        self.up2 = Up(4 * w, w)  # 32x32
        self.up1 = nn.ConvTranspose2d(2 * w, 3, 4, 2, 1)  # 64x64

    def forward(self, edges: torch.Tensor) -> torch.Tensor:
        d1 = self.down1(edges)
        d2 = self.down2(d1)
        d3 = self.down3(d2)
        d4 = self.down4(d3)
        d5 = self.down5(d4)
        up = self.up6(self.down6(d5))
        up = self.up5(torch.cat([up, d5], 1))
        up = self.up4(torch.cat([up, d4], 1))
        up = self.up3(torch.cat([up, d3], 1))
        up = self.up2(torch.cat([up, d2], 1))
        return torch.tanh(self.up1(functional.relu(torch.cat([up, d1], 1))))


class PatchDiscriminator(nn.Module):
    """edges and image, both [N, 3, 64, 64] -> logits [N, 1, 14, 14]. For training; not exported."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(6, width, 4, 2, 1),  # 32x32
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),  # 16x16
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, 1, 1, bias=False),  # 15x15
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 4, 1, 1),  # 14x14
        )

    def forward(self, edges: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([edges, image], 1))


def initialise(module: nn.Module) -> None:
    """The paper's N(0, 0.02) weights."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)


def pairs(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 [N, 28, 28] -> edges and tinted image, both float [N, 3, 64, 64] in -1..1."""
    grey = functional.interpolate(images.unsqueeze(1) / 255.0, size=(56, 56), mode="bilinear")
    grey = functional.pad(grey, (4, 4, 4, 4))
    sobel = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
    gradient = functional.conv2d(grey, torch.stack([sobel, sobel.T]).unsqueeze(1), padding=1)
    edges = (gradient.square().sum(1, keepdim=True).sqrt() > 0.6).float().expand(-1, 3, -1, -1)
    exponents = torch.tensor([0.8, 1.2, 2.0]).reshape(1, 3, 1, 1)
    floor = torch.tensor([0.0, 0.0, 0.25]).reshape(1, 3, 1, 1)
    tinted = floor + (1.0 - floor) * grey**exponents
    return edges * 2.0 - 1.0, tinted * 2.0 - 1.0


def train(generator: Generator, images: torch.Tensor, steps: int) -> None:
    """Alternates one PatchGAN step and one generator step a batch of 16."""
    discriminator = PatchDiscriminator().apply(initialise).to(memory_format=torch.channels_last)
    adam_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    adam_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    score = functional.binary_cross_entropy_with_logits
    start = time.perf_counter()
    for step in range(1, steps + 1):
        edges, image = pairs(images[torch.randint(len(images), (BATCH,))])
        fake = generator(edges)

        real_score, fake_score = discriminator(edges, image), discriminator(edges, fake.detach())
        loss_d = score(real_score, torch.ones_like(real_score))
        loss_d = 0.5 * (loss_d + score(fake_score, torch.zeros_like(fake_score)))
        adam_d.zero_grad()
        loss_d.backward()
        adam_d.step()

        fake_score = discriminator(edges, fake)
        l1 = functional.l1_loss(fake, image)
        loss_g = score(fake_score, torch.ones_like(fake_score)) + 100.0 * l1
        adam_g.zero_grad()
        loss_g.backward()
        adam_g.step()
        if step % 250 == 0 or step == steps:
            print(
                f"step {step}/{steps}: loss_d {loss_d.item():.3f}, loss_g {loss_g.item():.3f}, "
                f"L1 {l1.item():.4f}, {time.perf_counter() - start:.0f} s",
                flush=True,
            )


def main() -> None:
    options = arguments(__doc__ or "", Path(__file__).parent, paths={"data": DEBIAN_FOLDER}, steps=3000)
    generator = Generator().apply(initialise).to(memory_format=torch.channels_last)
    train(generator, load_images(options.data), options.steps)

    edges, image = pairs(load_images(options.data, split="t10k")[:24])
    stem = options.out / "pix2pix_unet_G"
    for exported in export_both(generator, stem, edges[:4], input_name="edges", output_name="image"):
        print(exported)
    with torch.no_grad():
        made = generator(edges)
    print(f"L1 on {len(edges)} held-out images: {functional.l1_loss(made, image):.4f}")
    triples = torch.stack([edges, made, image], 1).flatten(0, 1)
    save_grid(triples, options.out / "samples.png", columns=12)


if __name__ == "__main__":
    main()
