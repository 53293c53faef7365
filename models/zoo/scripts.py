# SPDX-License-Identifier: Apache-2.0
"""The zoo's training scripts: what papers say, in the order in which public scripts do it (G first, then D on the
detached samples, unless the paper says otherwise), on small networks of 16x16 images.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm as spectral_hook
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from models.zoo import translations
from models.zoo.networks import NOISE, SIZE, DcganDiscriminator, DcganGenerator
from models.zoo.parts import Judge, Picture, bce, convolutions, mlp, mse
from models.zoo.script import Batch, Script, Take
from models.zoo.translations import KINDS

F = nn.functional


class ConditionalGan(Script):
    """Labels are embedded in both networks; least squares (CGAN)."""

    inputs = ("z", "image", "label")

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.ModuleDict({"label": nn.Embedding(KINDS, 4), "net": Picture(NOISE + 4)})
        self.discriminator = nn.ModuleDict({"label": nn.Embedding(KINDS, 4), "net": Judge(4)})

    def score(self, image: Tensor, label: Tensor) -> Tensor:
        return self.discriminator["net"](image, self.discriminator["label"](label))

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        label = batch["label"]
        fake = self.generator["net"](torch.cat([batch["z"], self.generator["label"](label)], 1))
        minimise("loss_g", mse(self.score(fake, label), 1.0))
        tell("fake", fake)
        minimise(
            "loss_d", (mse(self.score(batch["image"], label), 1.0) + mse(self.score(fake.detach(), label), 0.0)) / 2
        )


class AuxiliaryClassifierGan(Script):
    """D also tells the label, by cross-entropy (ACGAN)."""

    inputs = ("z", "image", "label")

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.ModuleDict({"label": nn.Embedding(KINDS, NOISE), "net": Picture(NOISE)})
        self.discriminator = Judge(results=1 + KINDS)

    def both(self, image: Tensor, label: Tensor, target: float) -> Tensor:
        found = self.discriminator(image)
        return (bce(found[:, :1], target) + F.cross_entropy(found[:, 1:], label)) / 2

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        label = batch["label"]
        fake = self.generator["net"](batch["z"] * self.generator["label"](label))
        minimise("loss_g", self.both(fake, label, 1.0))
        tell("fake", fake)
        minimise("loss_d", (self.both(batch["image"], label, 1.0) + self.both(fake.detach(), label, 0.0)) / 2)


class InfoGan(Script):
    """A third optimizer, for both networks: what D tells of the code that G was given (InfoGAN)."""

    inputs = ("z", "code", "label", "image")

    def __init__(self) -> None:
        super().__init__()
        self.generator = Picture(NOISE + 2 + KINDS)
        self.discriminator = Judge(results=1 + 2 + KINDS)

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        kind = F.one_hot(batch["label"], KINDS).to(batch["z"].dtype)
        given = torch.cat([batch["z"], batch["code"], kind], 1)
        fake = self.generator(given)
        minimise("loss_g", mse(self.discriminator(fake)[:, :1], 1.0))
        tell("fake", fake)
        real, made = self.discriminator(batch["image"]), self.discriminator(fake.detach())
        minimise("loss_d", (mse(real[:, :1], 1.0) + mse(made[:, :1], 0.0)) / 2)
        told = self.discriminator(self.generator(given))
        info = F.cross_entropy(told[:, 3:], batch["label"]) + 0.1 * F.mse_loss(told[:, 1:3], batch["code"])
        minimise("loss_info", info)


class EnergyGan(Script):
    """D is an autoencoder, its error the energy, with a margin; G's codes are pulled apart (EBGAN)."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = Picture(NOISE)
        self.discriminator = nn.ModuleDict({"down": mlp(SIZE * SIZE, 8), "up": Picture(8)})

    def code(self, image: Tensor) -> Tensor:
        return self.discriminator["down"](image.flatten(1))

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        fake = self.generator(batch["z"])
        code = self.code(fake)
        rebuilt = self.discriminator["up"](code)
        unit = code / code.norm(2, 1, keepdim=True)
        alike = unit @ unit.t()
        n = code.shape[0]
        apart = (alike.sum() - n) / (n * (n - 1))
        minimise("loss_g", F.mse_loss(rebuilt, fake.detach()) + 0.1 * apart)
        tell("fake", fake)
        real, again = batch["image"], fake.detach()
        energy = F.mse_loss(self.discriminator["up"](self.code(real)), real)
        loss = energy + F.relu(0.6 - F.mse_loss(self.discriminator["up"](self.code(again)), again))
        tell("energy", energy)
        minimise("loss_d", loss)


class EquilibriumGan(Script):
    """D is an autoencoder; a number k keeps G and D in balance, from iteration to iteration (BEGAN)."""

    inputs = ("z", "image", "k")

    def __init__(self) -> None:
        super().__init__()
        self.generator = Picture(NOISE)
        self.discriminator = nn.ModuleDict({"down": mlp(SIZE * SIZE, 8), "up": Picture(8)})

    def error(self, image: Tensor) -> Tensor:
        return (self.discriminator["up"](self.discriminator["down"](image.flatten(1))) - image).abs().mean()

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        fake, k = self.generator(batch["z"]), batch["k"]
        minimise("loss_g", self.error(fake))
        tell("fake", fake)
        real, made = self.error(batch["image"]), self.error(fake.detach())
        minimise("loss_d", real - k * made)
        off = (0.75 * real - made).detach()
        tell("k_next", (k + 0.1 * off).clamp(0, 1))
        tell("measure", real.detach() + off.abs())


class SoftmaxGan(Script):
    """Scores of the whole batch share out one probability, which a bias would not change (Softmax GAN)."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = Picture(NOISE), Judge(last_bias=False)

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        fake = self.generator(batch["z"])
        n = fake.shape[0]

        def losses(made: Tensor) -> tuple[Tensor, Tensor]:
            real, made = self.discriminator(batch["image"]), self.discriminator(made)
            z = torch.exp(-real).sum() + torch.exp(-made).sum()
            log = torch.log(z + 1e-8)
            return real.sum() / n + log, real.sum() / (2 * n) + made.sum() / (2 * n) + log

        minimise("loss_g", losses(fake)[1])
        tell("fake", fake)
        minimise("loss_d", losses(fake.detach())[0])


class BidirectionalGan(Script):
    """An encoder beside the generator; D sees pairs of code and image (BiGAN)."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.ModuleDict({"make": Picture(NOISE), "read": mlp(SIZE * SIZE, 16, NOISE)})
        self.discriminator = Judge(NOISE)

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        z, image = batch["z"], batch["image"]
        fake, code = self.generator["make"](z), self.generator["read"](image.flatten(1))
        minimise("loss_g", bce(self.discriminator(fake, z), 1.0) + bce(self.discriminator(image, code), 0.0))
        tell("fake", fake)
        tell("code", code)
        made, real = self.discriminator(fake.detach(), z), self.discriminator(image, code.detach())
        minimise("loss_d", bce(real, 1.0) + bce(made, 0.0))


class AdversarialAutoencoder(Script):
    """Codes of an autoencoder with noise of their own against codes that are drawn (AAE)."""

    inputs = ("z", "noise", "image")

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"body": mlp(SIZE * SIZE, 16), "mean": nn.Linear(16, 4), "log": nn.Linear(16, 4)})
        self.decoder, self.discriminator = Picture(4), mlp(4, 12, 1)

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        image = batch["image"]
        body = self.encoder["body"](image.flatten(1))
        code = batch["noise"] * torch.exp(self.encoder["log"](body) / 2) + self.encoder["mean"](body)
        rebuilt = (self.decoder(code) - image).abs().mean()
        minimise("loss_g", 0.001 * bce(self.discriminator(code), 1.0) + 0.999 * rebuilt)
        tell("code", code)
        minimise("loss_d", (bce(self.discriminator(batch["z"]), 1.0) + bce(self.discriminator(code.detach()), 0.0)) / 2)


class CoupledGan(Script):
    """Two generators and two discriminators that share their inner layers (CoGAN)."""

    inputs = ("z", "a", "b")

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.ModuleDict({"body": mlp(NOISE, 16), "a": Picture(16), "b": Picture(16)})
        self.discriminator = nn.ModuleDict(
            {"a": nn.Linear(SIZE * SIZE, 12), "b": nn.Linear(SIZE * SIZE, 12), "body": mlp(12, 8, 1)}
        )

    def score(self, kind: str, image: Tensor) -> Tensor:
        return self.discriminator["body"](F.leaky_relu(self.discriminator[kind](image.flatten(1)), 0.2))

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        body = F.leaky_relu(self.generator["body"](batch["z"]), 0.2)
        fake = {kind: self.generator[kind](body) for kind in "ab"}
        minimise("loss_g", sum(mse(self.score(kind, fake[kind]), 1.0) for kind in "ab") / 2)
        tell("fake_a", fake["a"])
        tell("fake_b", fake["b"])
        terms = [
            mse(self.score(kind, batch[kind]), 1.0) + mse(self.score(kind, fake[kind].detach()), 0.0) for kind in "ab"
        ]
        minimise("loss_d", sum(terms) / 4)


class PerturbedPenalty(Script):
    """Slopes of 1 near real samples (DRAGAN)."""

    inputs = ("z", "image", "near")

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = Picture(NOISE), convolutions()

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        fake = self.generator(batch["z"])
        minimise("loss_g", bce(self.discriminator(fake), 1.0))
        tell("fake", fake)
        around = (batch["image"] + 0.1 * batch["near"]).requires_grad_()
        scores = self.discriminator(around)
        tell("around", around)
        tell("scores", scores)
        loss = bce(self.discriminator(batch["image"]), 1.0) + bce(self.discriminator(fake.detach()), 0.0)
        minimise("loss_d", loss + self.penalty(scores, around))


class DivergencePenalty(Script):
    """Wasserstein divergence: slopes to the sixth power, of real and made samples (WGAN-div)."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = Picture(NOISE), convolutions()

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        fake = self.generator(batch["z"])
        real, made = batch["image"] * 1.0, fake.detach() * 1.0
        if not (torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting()):
            real, made = real.requires_grad_(), made.requires_grad_()
        score_r, score_f = self.discriminator(real), self.discriminator(made)
        for name, value in {"real": real, "made": made, "score_r": score_r, "score_f": score_f}.items():
            tell(name, value)
        tell("fake", fake)
        steep = self.penalty(score_r, real, 1.0, center=0, p=6) + self.penalty(score_f, made, 1.0, center=0, p=6)
        minimise("loss_d", score_f.mean() - score_r.mean() + steep)
        minimise("loss_g", -self.discriminator(fake).mean())


class ClusterGan(Script):
    """Codes of noise and a class, and an encoder that finds both again (ClusterGAN)."""

    inputs = ("z", "label", "image")

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.ModuleDict({"make": Picture(NOISE + KINDS), "read": mlp(SIZE * SIZE, 16, NOISE + KINDS)})
        self.discriminator = Judge()

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        z, label = 0.75 * batch["z"], batch["label"]
        fake = self.generator["make"](torch.cat([z, F.one_hot(label, KINDS).to(z.dtype)], 1))
        found = self.generator["read"](fake.flatten(1))
        codes = F.mse_loss(found[:, :NOISE], z) + F.cross_entropy(found[:, NOISE:], label)
        score = F.softplus(-self.discriminator(fake)).mean()
        minimise("loss_ge", score + 10 * codes)
        tell("fake", fake)
        real, made = self.discriminator(batch["image"]), self.discriminator(fake.detach())
        minimise("loss_d", F.softplus(-real).mean() + F.softplus(made).mean())


class SpectralGan(Script):
    """Hinge losses, every layer over its spectral norm (SNGAN); `norm` is one of PyTorch's."""

    def __init__(self, norm, generator: nn.Module) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, convolutions(norm)

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        fake = self.generator(batch["z"])
        minimise("loss_g", -self.discriminator(fake).mean())
        tell("fake", fake)
        real, made = self.discriminator(batch["image"]), self.discriminator(fake.detach())
        minimise("loss_d", F.relu(1 - real).mean() + F.relu(1 + made).mean())


def normed_generator(norm) -> nn.Sequential:
    """z [N, 16] -> image [N, 1, 16, 16]; its layers as `norm` has them."""
    return nn.Sequential(
        norm(nn.Linear(NOISE, 32)), nn.ReLU(), nn.Unflatten(1, (2, 4, 4)), norm(nn.ConvTranspose2d(2, 4, 4, 2, 1)),
        nn.ReLU(), norm(nn.ConvTranspose2d(4, 1, 4, 2, 1)), nn.Tanh(),
    )  # fmt: skip


class AveragedGan(Script):
    """DCGAN with decay, clipped gradients and a moving average of G."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = DcganGenerator(), DcganDiscriminator()

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        fake = self.generator(batch["z"])
        minimise("loss_g", bce(self.discriminator(fake), 1.0))
        tell("fake", fake)
        loss = (bce(self.discriminator(batch["image"]), 1.0) + bce(self.discriminator(fake.detach()), 0.0)) / 2
        minimise("loss_d", loss)


class RelativisticAverage(Script):
    """Scores against the mean of the other side's (RaGAN), weights over their norms."""

    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = Picture(NOISE), convolutions(weight_norm)

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        fake, image = self.generator(batch["z"]), batch["image"]
        real, made = self.discriminator(image).detach(), self.discriminator(fake)
        minimise("loss_g", bce(made - real.mean(), 1.0))
        tell("fake", fake)
        real, made = self.discriminator(image), self.discriminator(fake.detach())
        minimise("loss_d", (bce(real - made.mean(), 1.0) + bce(made - real.mean(), 0.0)) / 2)


SCRIPTS = {
    "cgan": ConditionalGan,
    "acgan": AuxiliaryClassifierGan,
    "infogan": InfoGan,
    "ebgan": EnergyGan,
    "began": EquilibriumGan,
    "softmax": SoftmaxGan,
    "bigan": BidirectionalGan,
    "aae": AdversarialAutoencoder,
    "cogan": CoupledGan,
    "dragan": PerturbedPenalty,
    "wgan-div": DivergencePenalty,
    "srgan": translations.SuperResolution,
    "stargan": translations.StarGan,
    "bicycle": translations.BicycleGan,
    "replay": translations.ReplayedCycles,
    "unit": translations.SharedLatent,
    "cluster": ClusterGan,
    "sngan": lambda: SpectralGan(spectral_norm, normed_generator(spectral_norm)),
    "sngan-hook": lambda: SpectralGan(spectral_hook, Picture(NOISE)),
    "context": translations.ContextEncoder,
    "averaged": AveragedGan,
    "ragan": RelativisticAverage,
}
