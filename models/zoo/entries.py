# SPDX-License-Identifier: Apache-2.0
"""The zoo that trains: each entry's commands, as a user types them in the repository's root. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
PLACE = "models/zoo"
BATCH = 8
ITERATIONS = 4
"""Of the recorded run in PyTorch (`recorded/NAME.npz`)."""


@dataclass(frozen=True)
class Entry:
    """One GAN. `options` are those of `mgc compile` besides the networks, `optimizer` is (name, options)."""

    name: str
    title: str
    networks: tuple[str, ...]
    options: tuple[str, ...]
    data: str
    shows: str
    """Input of the testing entry and file for it; "" where it is noise."""
    critic_steps: int = 1
    first: str = ""
    """Input that training begins with, and file for it: what is carried on."""
    picture: bool = True
    """Whether the testing entry makes images."""
    scripted: bool = False
    """Whether the model is the step of a training script (`models.zoo.scripts`)."""

    @property
    def compile(self) -> str:
        """Makes NAME.mgc."""
        model, *rest = (f"{PLACE}/onnx/{n}.onnx" for n in self.networks)
        other = [f"--discriminator {n}" for n in rest]
        return " ".join(["mgc compile", model, *other, *self.options, f"--batch {BATCH} -o {self.name}.mgc"])

    @property
    def train(self) -> str:
        """Two steps, and a checkpoint in the folder NAME."""
        first = f" --input {self.first}" if self.first else ""
        return f"mgc train {self.name}.mgc --data {PLACE}/data/{self.data}{first} --steps 2 --checkpoint {self.name}"

    @property
    def run(self) -> str:
        """Samples with the trained weights."""
        shown = f" --input {self.shows}" if self.shows else ""
        result = f"--png {self.name}.png" if self.picture else f"-o {self.name}.npz"
        averaged = " --ema" if "--ema" in " ".join(self.options) else ""
        return f"mgc run {self.name}.mgc --checkpoint {self.name} -n 4{shown}{averaged} {result}"

    @property
    def commands(self) -> tuple[str, str, str]:
        """All three."""
        return self.compile, self.train, self.run


ADAM = "--optimizer adam --lr 1e-3 --betas 0.5,0.999"
BOTH = "--phase discriminator=loss_d --phase generator=loss_g"
DCGAN = ("dcgan_G", "dcgan_D")
CRITIC = ("dcgan_G", "critic_D")
IMAGES = "images.npy"


def _pair(name: str, title: str, networks: tuple[str, ...], *options: str, critic_steps: int = 1) -> Entry:
    return Entry(name, title, networks, options, IMAGES, "", critic_steps)


def _script(
    name: str, title: str, data: str, shows: str, *options: str, first: str = "", picture: bool = True
) -> Entry:
    step, given = (f"{name}_step",), (*options, ADAM)
    return Entry(name, title, step, given, data, shows, first=first, picture=picture, scripted=True)


ZOO = (
    _pair("mlp", "MLP GAN", ("mlp_G", "mlp_D"), "--loss bce", ADAM),
    _pair("dcgan", "DCGAN", DCGAN, "--loss bce", ADAM),
    _pair("lsgan", "LSGAN", DCGAN, "--loss lsgan", ADAM),
    _pair(
        "wgan",
        "WGAN, clipped",
        CRITIC,
        "--loss wgan --phase discriminator=loss_d,steps=5,clip=0.05 --phase generator=loss_g",
        "--optimizer rmsprop --lr 5e-4",
        critic_steps=5,
    ),
    _pair(
        "wgan-gp",
        "WGAN-GP",
        CRITIC,
        "--loss wgan-gp --phase discriminator=loss_d,steps=3 --phase generator=loss_g",
        "--optimizer adam --lr 1e-3 --betas 0,0.9",
        critic_steps=3,
    ),
    _pair(
        "hinge",
        "Hinge, critic without spectral normalisation",
        CRITIC,
        "--loss hinge --phase discriminator=loss_d,lr=2e-3 --phase generator=loss_g,lr=5e-4",
        "--optimizer adam --betas 0,0.9",
    ),
    _pair("relativistic", "Relativistic GAN", DCGAN, "--loss relativistic --optimizer momentum --lr 1e-2"),
    Entry(
        "pix2pix", "Pix2Pix with L1", ("pix2pix_step",), (BOTH, ADAM), "pairs.npz", f"sketch={PLACE}/data/sketches.npy"
    ),
    Entry(
        "cyclegan",
        "CycleGAN",
        ("cyclegan_step",),
        ("--phase g=loss_g --group 'g=gen_*' --phase dis_a=loss_a --phase dis_b=loss_b", ADAM),
        "kinds.npz",
        f"a={PLACE}/data/sketches.npy",
    ),
    _script(
        "cgan", "CGAN", "labelled.npz", "label=1", "--phase generator=loss_g --phase discriminator=loss_d --once fake"
    ),
    _script(
        "acgan", "ACGAN", "labelled.npz", "label=1", "--phase generator=loss_g --phase discriminator=loss_d --once fake"
    ),
    _script(
        "infogan",
        "InfoGAN",
        "labelled.npz",
        "label=1",
        "--phase generator=loss_g --phase discriminator=loss_d --once fake --phase info=loss_info",
        "--group 'info=generator.*,discriminator.*'",
    ),
    _script("ebgan", "EBGAN", "images.npz", "", "--phase generator=loss_g --phase discriminator=loss_d --once fake"),
    _script(
        "began",
        "BEGAN",
        "images.npz",
        "",
        "--phase generator=loss_g --phase discriminator=loss_d --once fake --carry k=k_next",
        first=f"k={PLACE}/data/zero.npy",
    ),
    _script(
        "softmax", "Softmax GAN", "images.npz", "", "--phase generator=loss_g --phase discriminator=loss_d --once fake"
    ),
    _script(
        "bigan",
        "BiGAN",
        "images.npz",
        "",
        "--phase generator=loss_g --phase discriminator=loss_d --once fake --once code",
    ),
    _script(
        "aae",
        "Adversarial autoencoder",
        "images.npz",
        "",
        "--phase g=loss_g --group 'g=encoder.*,decoder.*' --phase discriminator=loss_d --once code",
    ),
    _script(
        "cogan",
        "CoGAN",
        "kinds.npz",
        "",
        "--phase generator=loss_g --phase discriminator=loss_d --once fake_a --once fake_b",
    ),
    _script(
        "dragan",
        "DRAGAN",
        "images.npz",
        "",
        "--phase generator=loss_g --phase discriminator=loss_d --once fake --penalty loss_d:scores:around",
    ),
    _script(
        "wgan-div",
        "WGAN-div",
        "images.npz",
        "",
        "--phase discriminator=loss_d --phase generator=loss_g",
        "--penalty loss_d:score_r:real,center=0,p=6,weight=1",
        "--penalty loss_d:score_f:made,center=0,p=6,weight=1",
    ),
    _script(
        "srgan",
        "ESRGAN's warm-up",
        "images.npz",
        "",
        "--phase generator=loss_pixel --phase generator=loss_g,from=2 --phase discriminator=loss_d,from=2",
        "--once made",
    ),
    _script(
        "stargan",
        "StarGAN",
        "kinded.npz",
        "",
        "--phase discriminator=loss_d --phase generator=loss_g --penalty loss_d:scores:between",
    ),
    _script(
        "bicycle",
        "BicycleGAN",
        "kinds.npz",
        "",
        "--phase ge=loss_ge --group 'ge=generator.*,encoder.*' --phase code=loss_code",
        "--group 'code=generator.*' --phase vae=loss_vae --phase lr=loss_lr --once coded --once fake",
    ),
    _script(
        "replay",
        "CycleGAN with buffers",
        "kinds.npz",
        "",
        "--phase g=loss_g --group 'g=gen_*' --phase dis_a=loss_a --phase dis_b=loss_b",
        "--replay old_a=fake_a,size=50 --replay old_b=fake_b,size=50",
    ),
    _script(
        "unit",
        "UNIT",
        "kinds.npz",
        "",
        "--phase g=loss_g --group 'g=gen_*' --phase dis_a=loss_a --phase dis_b=loss_b --once fake_a",
        "--once fake_b",
    ),
    _script(
        "cluster",
        "ClusterGAN",
        "labelled.npz",
        "label=1",
        "--phase ge=loss_ge --group 'ge=generator.*' --phase discriminator=loss_d --once fake",
        picture=False,
    ),
    _script(
        "sngan",
        "SNGAN, parametrizations",
        "images.npz",
        "",
        "--phase generator=loss_g --phase discriminator=loss_d --once fake",
    ),
    _script(
        "sngan-hook",
        "SNGAN, hooks",
        "images.npz",
        "",
        "--phase generator=loss_g --phase discriminator=loss_d --once fake",
    ),
    _script(
        "context",
        "Context encoder",
        "images.npz",
        "",
        "--phase generator=loss_g --phase discriminator=loss_d --once filling",
    ),
    _script(
        "averaged",
        "DCGAN, averaged",
        "images.npz",
        "",
        "--phase generator=loss_g --phase discriminator=loss_d --once fake --ema generator=0.9",
        "--weight-decay 1e-3 --clip-norm 0.5",
    ),
    _script(
        "ragan",
        "Relativistic average",
        "images.npz",
        "",
        "--phase generator=loss_g --phase discriminator=loss_d --once fake",
    ),
)
"""In the order of the table in docs/zoo.md."""
