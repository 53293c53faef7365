# SPDX-License-Identifier: Apache-2.0
"""Training steps in PyTorch: those that are exported as they are (outputs: the losses), and those that mgc composes.

Each has `phases`: in their order, the loss's name and the prefix of the parameters that it trains. `fakes` is what the
generators make, `loss` one of the losses, so that a plain training script can be made of it (`models/zoo/make.py`).
"""

import torch
from torch import Tensor, nn

from models.zoo.networks import Patches, Translator, UNet

F = nn.functional


def bce(scores: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, target))


LOSSES = {
    "bce": (lambda r, f: bce(r, 1.0) + bce(f, 0.0), lambda r, f: bce(f, 1.0)),
    "lsgan": (lambda r, f: ((r - 1) ** 2).mean() + (f**2).mean(), lambda r, f: ((f - 1) ** 2).mean()),
    "wgan": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "wgan-gp": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "hinge": (lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean(), lambda r, f: -f.mean()),
    "relativistic": (lambda r, f: bce(r - f, 1.0), lambda r, f: bce(f - r, 1.0)),
}
"""By name: of the discriminator and of the generator, of the scores of real and fake samples."""


class Composed(nn.Module):
    """What `mgc compile G --discriminator D --loss NAME` stands for."""

    phases = (("loss_d", "discriminator."), ("loss_g", "generator."))

    def __init__(self, generator: nn.Module, discriminator: nn.Module, loss: str) -> None:
        super().__init__()
        self.generator, self.discriminator, self.name = generator, discriminator, loss

    def fakes(self, data: dict[str, Tensor]) -> Tensor:
        return self.generator(data["z"])

    def loss(self, which: str, fake: Tensor, data: dict[str, Tensor]) -> Tensor:
        d, x = self.discriminator, data["image"]
        if which == "loss_g":
            return LOSSES[self.name][1](d(x) if self.name == "relativistic" else None, d(fake))
        fake = fake.detach()
        value = LOSSES[self.name][0](d(x), d(fake))
        if self.name == "wgan-gp":
            between = (data["epsilon"] * x + (1 - data["epsilon"]) * fake).requires_grad_()
            (slope,) = torch.autograd.grad(d(between).sum(), between, create_graph=True)
            value = value + 10.0 * ((slope.flatten(1).norm(2, dim=1) - 1) ** 2).mean()
        return value


class Pix2Pix(nn.Module):
    """A sketch to an image: cross-entropy on patches of the pair, and 100 times L1."""

    phases = (("loss_d", "discriminator."), ("loss_g", "generator."))

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = UNet(), Patches(2)

    def fakes(self, data: dict[str, Tensor]) -> Tensor:
        return self.generator(data["sketch"])

    def loss(self, which: str, fake: Tensor, data: dict[str, Tensor]) -> Tensor:
        sketch, photo = data["sketch"], data["photo"]
        if which == "loss_g":
            return bce(self.discriminator(torch.cat([sketch, fake], 1)), 1.0) + 100 * F.l1_loss(fake, photo)
        real = self.discriminator(torch.cat([sketch, photo], 1))
        return (bce(real, 1.0) + bce(self.discriminator(torch.cat([sketch, fake.detach()], 1)), 0.0)) / 2

    def forward(self, sketch: Tensor, photo: Tensor) -> tuple[Tensor, ...]:
        data = {"sketch": sketch, "photo": photo}
        fake = self.fakes(data)
        return tuple(self.loss(name, fake, data) for name, _ in self.phases)


class CycleGan(nn.Module):
    """Two kinds of images, a generator each way, trained together; a discriminator of each kind; least squares, L1 of
    what comes back (weight 10) and of what should not change (5).
    """

    phases = (("loss_g", "gen_"), ("loss_a", "dis_a."), ("loss_b", "dis_b."))

    def __init__(self) -> None:
        super().__init__()
        self.gen_ab, self.gen_ba = Translator(), Translator()
        self.dis_a, self.dis_b = Patches(1), Patches(1)

    def fakes(self, data: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self.gen_ba(data["b"]), self.gen_ab(data["a"])

    def loss(self, which: str, fake: tuple[Tensor, Tensor], data: dict[str, Tensor]) -> Tensor:
        a, b = data["a"], data["b"]
        if which == "loss_g":
            fake_a, fake_b = fake
            adversarial = ((self.dis_a(fake_a) - 1) ** 2).mean() + ((self.dis_b(fake_b) - 1) ** 2).mean()
            cycle = F.l1_loss(self.gen_ba(fake_b), a) + F.l1_loss(self.gen_ab(fake_a), b)
            same = F.l1_loss(self.gen_ba(a), a) + F.l1_loss(self.gen_ab(b), b)
            return adversarial + 10 * cycle + 5 * same
        d, real = (self.dis_a, a) if which == "loss_a" else (self.dis_b, b)
        made = self.fakes(data)[which == "loss_b"].detach()  # by the generators as they are now
        return (((d(real) - 1) ** 2).mean() + (d(made) ** 2).mean()) / 2

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        data = {"a": a, "b": b}
        fake = self.fakes(data)
        return tuple(self.loss(name, fake, data) for name, _ in self.phases)
