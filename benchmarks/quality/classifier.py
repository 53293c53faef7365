# SPDX-License-Identifier: Apache-2.0
"""Trains the classifier whose features the Frechet distance compares, and exports what computes them.

    python -m benchmarks.quality.classifier

A small convolutional network on Fashion-MNIST, padded to 32x32; mgc/evaluation/features.onnx, which ships with mgc, is
the network up to its last hidden layer: image [N, 1, 32, 32] in -1..1 -> features [N, 64], of both signs.
"""

from pathlib import Path

import torch
from torch import nn

from models.export import arguments, export
from models.fashion import DEBIAN_FOLDER, load_images, load_labels, pad_to_32, to_unit

FEATURES = 64
BATCH = 128


class Features(nn.Module):
    """image [N, 1, 32, 32] in -1..1 -> features [N, 64]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1, bias=False),  # 16x16
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1, bias=False),  # 8x8
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, 2, 1, bias=False),  # 4x4
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64 * 16, FEATURES),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layers(image)


def accuracy(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of images whose class the network, in eval mode, tells."""
    with torch.no_grad():
        guesses = torch.cat([network(to_unit(batch)).argmax(1) for batch in images.split(1000)])
    return float((guesses == labels).float().mean())


def main() -> None:
    home = Path(__file__).parents[2] / "mgc" / "evaluation"
    options = arguments(__doc__ or "", home, paths={"data": DEBIAN_FOLDER}, epochs=6)
    images, labels = pad_to_32(load_images(options.data)), load_labels(options.data)
    held_out, held_labels = pad_to_32(load_images(options.data, split="t10k")), load_labels(options.data, split="t10k")
    features = Features()
    network = nn.Sequential(features, nn.ReLU(), nn.Linear(FEATURES, 10)).to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(network.parameters(), lr=2e-3)
    steps = options.epochs * (len(images) // BATCH)
    decay = torch.optim.lr_scheduler.OneCycleLR(adam, 4e-3, total_steps=steps)
    for epoch in range(options.epochs):
        network.train()
        for batch in torch.randperm(len(images)).split(BATCH)[: len(images) // BATCH]:
            loss = nn.functional.cross_entropy(network(to_unit(images[batch])), labels[batch])
            adam.zero_grad()
            loss.backward()
            adam.step()
            decay.step()
        network.eval()
        print(f"epoch {epoch + 1}/{options.epochs}: test accuracy {accuracy(network, held_out, held_labels):.2%}")
    path = options.out / "features.onnx"
    print(export(features, path, to_unit(held_out[:4]), input_name="image", output_name="features"))


if __name__ == "__main__":
    main()
