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

    @property
    def compile(self) -> str:
        """Makes NAME.mgc."""
        model, *rest = (f"{PLACE}/onnx/{n}.onnx" for n in self.networks)
        other = [f"--discriminator {n}" for n in rest]
        return " ".join(["mgc compile", model, *other, *self.options, f"--batch {BATCH} -o {self.name}.mgc"])

    @property
    def train(self) -> str:
        """Two steps, and a checkpoint in the folder NAME."""
        return f"mgc train {self.name}.mgc --data {PLACE}/data/{self.data} --steps 2 --checkpoint {self.name}"

    @property
    def run(self) -> str:
        """Samples with the trained weights."""
        shown = f" --input {self.shows}" if self.shows else ""
        return f"mgc run {self.name}.mgc --checkpoint {self.name} -n 4{shown} --png {self.name}.png"

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
)
"""In the order of the table in docs/zoo.md."""
