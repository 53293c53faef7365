"""What training adds to a graph: states that live from iteration to iteration, the forward half, phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mgc.ir.op import register_attr

NEXT = ".next"

StateKind = Literal["parameter", "moment", "statistic", "counter"]
Draw = Literal["given", "normal", "uniform"]


@register_attr
@dataclass(frozen=True, eq=False)
class State:
    """A value that lives from iteration to iteration: graph input `name`, and output NAME.next where it changes.

    `kind`: a trained parameter, an optimizer's moment of one, a running statistic, or a step counter. `group` is the
    parameter group: the name of the phase that trains it (for a counter: the phase it counts), "" for a statistic of
    no group. `initial` is in the model's own shape. `onnx_name` is the initializer it came from and goes back to (""
    for moments and counters), `network` the file that initializer is in ("generator", "discriminator"; "" for a step
    model). `of` is the parameter that a moment belongs to.
    """

    name: str
    kind: StateKind
    initial: np.ndarray
    group: str = ""
    onnx_name: str = ""
    network: str = ""
    of: str = ""

    @property
    def next(self) -> str:
        """The name of the output with its new value."""
        return self.name + NEXT


@register_attr
@dataclass(frozen=True)
class Data:
    """An input of the training step that is no state. `draw` says what it holds if no file gives it: samples of
    N(0, 1) ("normal") or of U[0, 1) ("uniform"), or that it must be given.
    """

    name: str
    draw: Draw = "normal"


@register_attr
@dataclass(frozen=True)
class Statistic:
    """One application of a normalisation whose statistic updates a running one.

    `output` names the graph output with the batch's statistic; the running one `state` becomes
    momentum * old + (1 - momentum) * factor * statistic (factor n / (n - 1) makes a variance unbiased). The application
    takes place where the value of the output `ran` is computed.
    """

    state: str
    output: str
    ran: str
    momentum: float
    factor: float = 1.0


@register_attr
@dataclass(frozen=True)
class Forward:
    """What the inputs and outputs of the forward half of a training step are: an entry with a level-1 graph from data
    and states to losses, before anything is differentiated.

    The graph's inputs are the data, then the module's states (parameters and running statistics); its outputs are the
    losses, then those that `statistics` name, in the order in which the networks are applied.
    """

    data: tuple[Data, ...]
    losses: tuple[str, ...]
    statistics: tuple[Statistic, ...] = ()


@register_attr
@dataclass(frozen=True)
class Phase:
    """Minimises one loss output over one parameter group. `steps`: how often in an iteration, each on a fresh batch.

    `lr` replaces the optimizer's learning rate, `clip` limits the weights to [-clip, clip] after each update.
    """

    name: str
    loss: str
    steps: int = 1
    lr: float | None = None
    clip: float | None = None
