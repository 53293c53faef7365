"""What training adds to a graph: states that live from iteration to iteration, the forward half, phases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mgc.ir.op import register_attr

NEXT = ".next"

StateKind = Literal["parameter", "moment", "statistic", "counter", "carried", "pool"]
Draw = Literal["given", "normal", "uniform", "key", "pick", "keep"]


@register_attr
@dataclass(frozen=True, eq=False)
class State:
    """A value that lives from iteration to iteration: graph input `name`, and output NAME.next where it changes.

    `kind`: a trained parameter, an optimizer's moment of one, a running statistic, a step counter, or a value carried
    from one iteration to the next (its first value is given when training begins), or a pool of samples. `group` is
    the parameter group: the name of the phase that trains it (for a moment or counter: the phase it is of), "" for a
    statistic of no group and what is carried; `shared` are further phases that train it. `initial` is in the model's
    own shape. `onnx_name` is the initializer it came from and goes back to ("" for those that came from none),
    `network` the file that initializer is in ("generator", "discriminator"; "" for a step model). `of` is the
    parameter that a moment belongs to.
    """

    name: str
    kind: StateKind
    initial: np.ndarray
    group: str = ""
    onnx_name: str = ""
    network: str = ""
    of: str = ""
    shared: tuple[str, ...] = ()

    @property
    def next(self) -> str:
        """The name of the output with its new value."""
        return self.name + NEXT

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases whose group it is in."""
        return (self.group, *self.shared)


@register_attr
@dataclass(frozen=True)
class Data:
    """An input of the training step that is no state. `draw` says what it holds if no file gives it: samples of N(0,
    1) ("normal") or of U[0, 1) ("uniform"), the samples' seed and numbers ("key"), what a pool of samples gives and
    what it keeps ("pick", "keep", see `mgc.training.data.feeding.Replayed`), or that it must be given.
    """

    name: str
    draw: Draw = "normal"


@register_attr
@dataclass(frozen=True)
class Statistic:
    """One application of a normalisation whose statistic updates a running one.

    `output` names the graph output with the batch's statistic; the running one `state` becomes
    momentum * old + (1 - momentum) * factor * statistic (factor n / (n - 1) makes a variance unbiased). The application
    takes place where the value of the output `ran` is computed, for one of `losses` or, with none, at the end of the
    iteration; `own` are the parameters of the normalisation itself.
    """

    state: str
    output: str
    ran: str
    momentum: float
    factor: float = 1.0
    own: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


SMALLEST_NORM = 1e-12
"""What a vector is divided by at least when it is made a unit one: PyTorch's."""


@register_attr
@dataclass(frozen=True)
class Spectrum:
    """A weight that is divided by sigma = left . (M right), where M is the weight as a matrix, by the names of its
    initializers. In training every application first moves the vectors on, `steps` times: left to M right and then
    right to M^T left, each made a unit vector (`left_first`), or the other way round.
    """

    weight: str
    left: str
    right: str
    left_first: bool = False
    steps: int = 1


@register_attr
@dataclass(frozen=True)
class Estimate:
    """One application of a weight that has a `Spectrum`: it moves the states `vectors` to what the outputs `moved` make
    of them, and reads the result, as a constant, from the inputs `read`.
    """

    vectors: tuple[str, str]
    moved: tuple[str, str]
    read: tuple[str, str]


@register_attr
@dataclass(frozen=True)
class Carry:
    """The value of `output` in one iteration is that of `input` in the next."""

    input: str
    output: str


@register_attr
@dataclass(frozen=True)
class Penalty:
    """weight * mean((|d score / d input| - center)^power) over samples, added to `loss`; |.| is the Euclidean norm of a
    sample's gradient. `one_sided`: norms below the center cost nothing.
    """

    loss: str
    score: str
    input: str
    center: float = 1.0
    power: float = 2.0
    weight: float = 10.0
    one_sided: bool = False


@register_attr
@dataclass(frozen=True)
class Replay:
    """The input `input` is samples of `output`, of this iteration and of earlier ones, out of a pool of `size`."""

    input: str
    output: str
    size: int


@register_attr
@dataclass(frozen=True)
class Script:
    """What a training script does with the values of its step, besides minimising losses. All are names of the model's
    values; what is `once` is computed by the first phase that needs it and is a constant for those after it.
    """

    once: tuple[str, ...] = ()
    carries: tuple[Carry, ...] = ()
    penalties: tuple[Penalty, ...] = ()
    replays: tuple[Replay, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The values that it names."""
        handed = (each.output for each in (*self.carries, *self.replays))
        penalised = (name for p in self.penalties for name in (p.loss, p.score, p.input))
        return tuple(dict.fromkeys((*self.once, *handed, *penalised)))


PLAIN = Script()


@register_attr
@dataclass(frozen=True)
class Left:
    """A value that phases leave behind: the output `output` as the last phase with one of `losses` computed it."""

    output: str
    losses: tuple[str, ...]


@register_attr
@dataclass(frozen=True)
class Forward:
    """What the inputs and outputs of the forward half of a training step are: an entry with a level-1 graph from data
    and states to losses, before anything is differentiated.

    The graph's inputs are the data, then the module's states (parameters, running statistics, what is carried), then
    what `estimates` read; its outputs are the losses, the scalars `reported` besides them, those that `carries`,
    `once`, `left`, `estimates` and `statistics` name, the last two in the order in which the networks are applied.
    `still` has (loss, parameter) where the parameter enters the loss but its derivative is zero for sure (see
    `cancel_shifts`): it decays, if weights do.
    """

    data: tuple[Data, ...]
    losses: tuple[str, ...]
    statistics: tuple[Statistic, ...] = ()
    reported: tuple[str, ...] = ()
    carries: tuple[Carry, ...] = ()
    once: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()
    still: tuple[tuple[str, str], ...] = ()
    estimates: tuple[Estimate, ...] = ()


@register_attr
@dataclass(frozen=True)
class Claim:
    """What the script makes of one phase of an entry, told from its forward half (see `mgc.isa.claim.StoredClaim`).

    `phase` is its name, "" for the end of the iteration. `changes` are the parameters, and what is carried, that it
    changes; `reads` the (state, version) and `draws` the numbers of the random ops that this may depend on; a version
    counts the changes by the phases before it. `slopes` has (parameter, weights): of what products with these give the
    gradient of the one is made at once, that is with no product in between.
    """

    phase: str
    changes: tuple[str, ...]
    reads: tuple[tuple[str, int], ...]
    draws: tuple[int, ...]
    slopes: tuple[tuple[str, tuple[str, ...]], ...] = ()


@register_attr
@dataclass(frozen=True)
class Phase:
    """Minimises one loss output over one parameter group. `steps`: how often in an iteration, each on a fresh batch.

    `lr` and `wd` replace the optimizer's learning rate and weight decay, `clipnorm` limits the norm of all its
    gradients together, `clip` the weights to [-clip, clip] after each update. It is there from iteration `since` on,
    where it takes the place of an earlier phase of its name.
    """

    name: str
    loss: str
    steps: int = 1
    lr: float | None = None
    clip: float | None = None
    since: int = 0
    wd: float | None = None
    clipnorm: float | None = None
