# SPDX-License-Identifier: Apache-2.0
"""The zoo's training scripts that make images of images; see `models.zoo.scripts`."""

import torch
from torch import Tensor, nn

from models.zoo.networks import SIZE, Patches, Translator
from models.zoo.parts import bce, convolutions, mlp, mse
from models.zoo.script import Batch, Script, Take

F = nn.functional
KINDS = 3
"""Classes of labels."""


class SuperResolution(Script):
    """Pixels first, then an adversarial loss as well, with the same optimizer (as ESRGAN's warm-up)."""

    inputs = ("image",)

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.Conv2d(1, 8, 3, 1, 1), nn.PReLU(), nn.Conv2d(8, 16, 3, 1, 1), nn.PixelShuffle(2),
            nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3, 1, 1), nn.Tanh(),
        )  # fmt: skip
        self.discriminator = convolutions()

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        image = batch["image"]
        made = self.generator(F.avg_pool2d(image, 2))
        pixels = (made - image).abs().mean()
        if self.now is None or self.now < 2:
            minimise("loss_pixel", pixels)
        else:
            tell("loss_pixel", pixels)
        tell("made", made)
        if self.now is None or self.now >= 2:
            real, fake = self.discriminator(image), self.discriminator(made)
            minimise("loss_g", pixels + 0.1 * bce(fake - real.mean().detach(), 1.0))
            real, fake = self.discriminator(image), self.discriminator(made.detach())
            minimise("loss_d", (bce(real - fake.mean(), 1.0) + bce(fake - real.mean(), 0.0)) / 2)


class StarGan(Script):
    """One generator for all kinds, told by planes of labels; classes, cycles and a penalty (StarGAN)."""

    inputs = ("image", "kind", "wanted", "mix")

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.Conv2d(1 + KINDS, 8, 3, 1, 1, bias=False), nn.InstanceNorm2d(8, affine=True), nn.ReLU(),
            nn.Conv2d(8, 1, 3, 1, 1), nn.Tanh(),
        )  # fmt: skip
        self.discriminator = nn.ModuleDict(
            {
                "body": nn.Sequential(nn.Conv2d(1, 8, 4, 2, 1), nn.LeakyReLU(0.01)),
                "score": nn.Conv2d(8, 1, 3, 1, 1),
                "kind": nn.Conv2d(8, KINDS, 8),
            }
        )

    def make(self, image: Tensor, kind: Tensor) -> Tensor:
        planes = kind.view(-1, KINDS, 1, 1).expand(-1, -1, SIZE, SIZE)
        return self.generator(torch.cat([image, planes], 1))

    def judge(self, image: Tensor) -> tuple[Tensor, Tensor]:
        body = self.discriminator["body"](image)
        return self.discriminator["score"](body), self.discriminator["kind"](body).flatten(1)

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        image, kind, wanted, mix = (batch[name] for name in self.inputs)
        fake = self.make(image, wanted)
        tell("fake", fake)
        real, told = self.judge(image)
        made, _ = self.judge(fake.detach())
        between = (mix * image + (1 - mix) * fake.detach()).requires_grad_()
        scores, _ = self.judge(between)
        tell("between", between)
        tell("scores", scores)
        classes = F.binary_cross_entropy_with_logits(told, kind)
        minimise("loss_d", made.mean() - real.mean() + classes + self.penalty(scores, between))
        made, told = self.judge(fake)
        cycle = (self.make(fake, kind) - image).abs().mean()
        classes = F.binary_cross_entropy_with_logits(told, wanted)
        minimise("loss_g", -made.mean() + classes + 10 * cycle)


class BicycleGan(Script):
    """A code for each image of a kind: what is made from it, and it from what is made (BicycleGAN)."""

    inputs = ("a", "b", "z", "noise")

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Conv2d(5, 8, 3, 1, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 3, 1, 1), nn.Tanh())
        self.encoder = mlp(SIZE * SIZE, 16, 8)
        self.lr, self.vae = Patches(1), Patches(1)

    def make(self, a: Tensor, code: Tensor) -> Tensor:
        return self.generator(torch.cat([a, code.view(-1, 4, 1, 1).expand(-1, -1, SIZE, SIZE)], 1))

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        found = self.encoder(image.flatten(1))
        return found[:, :4], found[:, 4:]

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        a, b, z, noise = (batch[name] for name in self.inputs)
        mean, log = self.encode(b)
        coded = self.make(a, mean + noise * torch.exp(log / 2))
        fake = self.make(a, z)
        close = 0.5 * (torch.exp(log) + mean**2 - log - 1).mean()
        loss = mse(self.vae(coded), 1.0) + mse(self.lr(fake), 1.0) + 10 * F.l1_loss(coded, b) + 0.01 * close
        tell("coded", coded)
        tell("fake", fake)
        minimise("loss_ge", loss)
        minimise("loss_code", 0.5 * F.l1_loss(self.encode(fake.detach())[0], z))
        minimise("loss_vae", mse(self.vae(b), 1.0) + mse(self.vae(coded.detach()), 0.0))
        minimise("loss_lr", mse(self.lr(b), 1.0) + mse(self.lr(fake.detach()), 0.0))


class ReplayedCycles(Script):
    """CycleGAN with buffers of old samples for its discriminators."""

    inputs = ("a", "b", "old_a", "old_b")

    def __init__(self) -> None:
        super().__init__()
        self.gen_ab, self.gen_ba = Translator(), Translator()
        self.dis_a, self.dis_b = Patches(1), Patches(1)

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        a, b = batch["a"], batch["b"]
        fake_b, fake_a = self.gen_ab(a), self.gen_ba(b)
        same = (F.l1_loss(self.gen_ba(a), a) + F.l1_loss(self.gen_ab(b), b)) / 2
        scored = (mse(self.dis_b(fake_b), 1.0) + mse(self.dis_a(fake_a), 1.0)) / 2
        cycle = (F.l1_loss(self.gen_ba(fake_b), a) + F.l1_loss(self.gen_ab(fake_a), b)) / 2
        minimise("loss_g", scored + 10 * cycle + 5 * same)
        tell("fake_a", fake_a)
        tell("fake_b", fake_b)
        # the buffers hold more than is made here, so that they give what they are given
        old_a, old_b = (batch[n] if self.now is None else f.detach() for n, f in (("old_a", fake_a), ("old_b", fake_b)))
        minimise("loss_a", (mse(self.dis_a(a), 1.0) + mse(self.dis_a(old_a), 0.0)) / 2)
        minimise("loss_b", (mse(self.dis_b(b), 1.0) + mse(self.dis_b(old_b), 0.0)) / 2)


class SharedLatent(Script):
    """Two autoencoders with one space of codes, which are drawn around what is encoded (UNIT)."""

    inputs = ("a", "b", "noise")

    def __init__(self) -> None:
        super().__init__()
        self.gen_enc = nn.ModuleDict({k: nn.Conv2d(1, 4, 4, 2, 1) for k in "ab"})
        self.gen_dec = nn.ModuleDict(
            {k: nn.Sequential(nn.InstanceNorm2d(4), nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Tanh()) for k in "ab"}
        )
        self.dis_a, self.dis_b = Patches(1), Patches(1)

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        mean = {k: F.leaky_relu(self.gen_enc[k](batch[k]), 0.2) for k in "ab"}
        code = {k: mean[k] + batch["noise"] for k in "ab"}
        other = {"a": self.gen_dec["a"](code["b"]), "b": self.gen_dec["b"](code["a"])}
        loss = mse(self.dis_a(other["a"]), 1.0) + mse(self.dis_b(other["b"]), 1.0)
        for k in "ab":
            loss = loss + 0.1 * mean[k].square().mean() + 10 * (self.gen_dec[k](code[k]) - batch[k]).abs().mean()
        minimise("loss_g", loss)
        for k in "ab":
            tell(f"fake_{k}", other[k])
        minimise("loss_a", mse(self.dis_a(batch["a"]), 1.0) + mse(self.dis_a(other["a"].detach()), 0.0))
        minimise("loss_b", mse(self.dis_b(batch["b"]), 1.0) + mse(self.dis_b(other["b"].detach()), 0.0))


class ContextEncoder(Script):
    """A hole in the middle is filled; D sees the fillings (context encoder, CCGAN)."""

    inputs = ("image",)

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.Conv2d(1, 6, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(6, 8, 4, 2, 1), nn.BatchNorm2d(8, 0.8),
            nn.LeakyReLU(0.2), nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.BatchNorm2d(6, 0.8), nn.ReLU(),
            nn.Conv2d(6, 1, 3, 1, 1), nn.Tanh(),
        )  # fmt: skip
        self.discriminator = Patches(1)

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        image = batch["image"]
        hole = F.pad(torch.ones(1, 1, 8, 8, dtype=image.dtype), (4, 4, 4, 4))
        made = self.generator(image * (1 - hole))
        filling, missing = F.pad(made, (4, 4, 4, 4)), image
        minimise(
            "loss_g", 0.001 * mse(self.discriminator(filling), 1.0) + 0.999 * F.l1_loss(filling * hole, image * hole)
        )
        tell("filling", filling)
        loss = (mse(self.discriminator(missing), 1.0) + mse(self.discriminator(filling.detach()), 0.0)) / 2
        minimise("loss_d", loss)
