# SPDX-License-Identifier: Apache-2.0
"""What a training script is to the zoo: one iteration, which is trained as it stands and exported as it stands."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

Batch = Mapping[str, Tensor]
Take = Callable[[str, Tensor], None]


class Script(nn.Module):
    """A GAN with its script. `iteration` minimises losses by name, in order, and tells other values by name.

    As a module it is the step model of that iteration: its outputs are all losses and what is told, under `outputs`.
    `inputs` are the names of what a batch holds, `now` counts the iterations (None: all there is, for the export).
    """

    inputs: tuple[str, ...] = ("z", "image")
    now: int | None = None
    outputs: tuple[str, ...] = ()

    def iteration(self, batch: Batch, minimise: Take, tell: Take) -> None:
        raise NotImplementedError

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        found: dict[str, Tensor] = {}
        self.iteration(dict(zip(self.inputs, values, strict=True)), found.__setitem__, found.__setitem__)
        self.outputs = tuple(found)
        return tuple(found.values())

    def penalty(
        self, scores: Tensor, x: Tensor, weight: float = 10.0, *, center: float = 1.0, p: float = 2.0
    ) -> Tensor | float:
        """weight * mean((|d scores / dx| - center)^p) over samples: what no exporter writes, and `--penalty` says."""
        if torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting():
            return 0.0
        (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
        squares = slope.flatten(1).square().sum(1)
        return weight * ((squares.sqrt() - center) ** p if center else squares ** (p / 2)).mean()
