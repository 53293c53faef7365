"""Composing a generator, a discriminator and a loss's name into the forward half of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mgc.functions.draws import KEY
from mgc.ir.build import Build
from mgc.ir.graph import Graph, Value
from mgc.ir.module import Entry, Module
from mgc.ir.ops import Reshape, Unary
from mgc.ir.training import Data, Draw, Estimate, Forward, State, Statistic
from mgc.passes.manager import UnsupportedError
from mgc.passes.tensor.scaled import scale_products
from mgc.passes.training.batch_statistics import batch_statistics
from mgc.passes.training.copying import Copier
from mgc.passes.training.differentiate import gradients
from mgc.passes.training.lift import initial_states, lift, mark_training
from mgc.passes.training.losses import LOSSES, Loss, mean
from mgc.passes.training.model import draw_of
from mgc.passes.training.script import with_losses
from mgc.passes.training.shifts import cancel_shifts
from mgc.passes.training.spectral import estimates

GENERATOR, DISCRIMINATOR = "generator", "discriminator"
LOSS_D, LOSS_G = "loss_d", "loss_g"
EPSILON = "epsilon"
DEFAULT_GP_WEIGHT = 10.0
REDRAWN = "redrawn"
IMAGE = "image"


def compose(
    generator: Entry,
    discriminator: Entry,
    loss: str,
    warnings: list[str],
    *,
    gp_weight: float = 10.0,
    redraw_noise: bool = False,
    clipped: bool = False,
    once: Sequence[str] = (),
) -> Module:
    """The forward half (see `Forward`) of G and D under a loss of `losses.LOSSES`, with losses `loss_d` and `loss_g`.

    Data are G's inputs (floats are drawn N(0, 1) if no file gives them), the real samples under the name of D's input
    ("real" if G has an input of that name), other inputs of D (those that have the name of an input of G are the same:
    a condition), and with a gradient penalty "epsilon", one number in [0, 1) a sample. With `redraw_noise` the
    generator's loss has noise of its own, under "NAME.redrawn".

    D is applied to the real samples, then to the fakes (then to what lies between), always with the same parameters;
    all batch normalisations are in training mode, and update their running statistics in that order. Every float
    initializer that counts as a parameter is trained, in the group "generator" or "discriminator", under GROUP.NAME
    (`onnx_name` is its own). UnsupportedError says what does not fit. `clipped` says that the discriminator's weights
    are limited after each update; without, wgan warns.
    `once` may name the generator's output, or call it "image": both phases then read the same fakes.
    """
    if loss not in LOSSES:
        raise UnsupportedError(f"no loss {loss!r}: choose one of {', '.join(LOSSES)}")
    composer = _Composer(generator, discriminator, LOSSES[loss], gp_weight, redraw_noise, loss, warnings, once)
    if loss == "wgan" and not clipped:
        warnings.append(
            "wgan needs a critic of bounded slope: clip its weights with --phase discriminator=loss_d,clip=0.01"
        )
    return composer.run()


@dataclass
class _Part:
    """A network with its weights lifted to inputs, and as outputs its batch statistics, and what moves its vectors."""

    graph: Graph
    states: tuple[State, ...]
    statistics: tuple[Statistic, ...]
    data: list[Value]
    outputs: list[Value]
    estimates: tuple[Estimate, ...]


def _prepare(network: Entry, name: str, inputs: set[str]) -> _Part:
    """Lifts a network's weights. States are called NETWORK.LAYER, as the units that hold them: the network's name is
    put in front unless all names have it already; `inputs` are names that data have.
    """
    graph, weights = network.graph.copy(), network.attributes["weights"]
    running = mark_training(graph, lambda node: True)
    running |= {v: s.weight for s in weights.spectra for v in (s.left, s.right)}
    groups = {n: (name,) for n in weights.parameters if n not in running}
    found = initial_states(graph, weights.arrays, groups, dict.fromkeys(running, name), name)
    full = all(s.name.startswith(f"{name}.") and s.name not in inputs for s in found)
    states = tuple(replace(s, name=s.name if full else f"{name}.{s.name}", group=name) for s in found)
    if not any(s.kind == "parameter" for s in states):
        raise UnsupportedError(f"the {name} has no parameters: none of its initializers is a weight")
    lifted = lift(graph, states)
    results = len(lifted.outputs)
    moved = estimates(lifted, weights.spectra, {s.onnx_name: s.name for s in states})
    scale_products(lifted, {s.name for s in states})
    statistics = batch_statistics(lifted)
    cancel_shifts(lifted)
    held = {*(s.name for s in states), *(name for e in moved for name in e.read)}
    data = [v for v in lifted.inputs if v.name not in held]
    return _Part(lifted, states, statistics, data, [v for _, v in lifted.outputs[:results]], moved)


@dataclass
class _Composer:
    generator: Entry
    discriminator: Entry
    loss: Loss
    gp_weight: float
    redraw_noise: bool
    name: str
    warnings: list[str]
    once: Sequence[str] = ()
    applications: int = 0

    def run(self) -> Module:
        inputs = {v.name for n in (self.generator, self.discriminator) for v in n.graph.inputs}
        self.g, self.d = (
            _prepare(self.generator, GENERATOR, inputs),
            _prepare(self.discriminator, DISCRIMINATOR, inputs),
        )
        self.graph = Graph(f"{self.generator.graph.name} and {self.discriminator.graph.name}")
        self.copier, self.build = Copier(self.graph), Build(self.graph)
        self.data: dict[str, Data] = {}
        self.values: dict[str, Value] = {}
        self.statistics: list[Statistic] = []
        self.estimates: list[Estimate] = []
        self.image_input = self._image_input()
        self._add_inputs()
        return self._compose()

    # -- inputs ----------------------------------------------------------------------------------------------------

    def _image_input(self) -> Value:
        """The input of D that takes a sample: the only one that is not a condition."""
        fake = self._fake_output()
        names = {v.name for v in self.g.data}
        candidates = [v for v in self.d.data if v.type == fake.type]
        free = [v for v in candidates if v.name not in names] or candidates
        given = [v for v in self.d.data if v.name != KEY]
        if len(given) == 1 and not candidates:
            (only,) = given
            raise UnsupportedError(f"the generator gives {fake.type} but the discriminator takes {only.type}")
        if not free:
            raise UnsupportedError(f"no input of the discriminator takes the generator's {fake.type}")
        if len(free) > 1:
            # a conditional discriminator: the last one is the sample, the first the condition, as in pix2pix
            self.warnings.append(
                f"the discriminator has several inputs of type {fake.type}: {free[-1].name} is taken for the sample"
            )
        return free[-1]

    def _check_once(self) -> None:
        named = {IMAGE, *(name for name, _ in self.generator.graph.outputs)}
        strange = [name for name in self.once if name not in named]
        if strange:
            raise UnsupportedError(
                f"--once {strange[0]}: with --discriminator the generator's output can be computed once, "
                f"{' or '.join(sorted(named))}"
            )
        if self.once and self.redraw_noise:
            raise UnsupportedError(f"--once {self.once[0]}: with --redraw-noise each phase has fakes of its own")

    def _fake_output(self) -> Value:
        outputs = self.g.outputs
        if len(outputs) != 1:
            raise UnsupportedError(f"the generator has {len(outputs)} outputs: one is needed")
        return outputs[0]

    def _add_inputs(self) -> None:
        for value in self.g.data:
            self._add_data(value.name, value, draw_of(value))
        names = {v.name for v in self.g.data}
        self.real = "real" if self.image_input.name in names else self.image_input.name
        self._add_data(self.real, self.image_input, "given")
        for value in self.d.data:
            if value is not self.image_input and value.name not in names:
                self._add_data(value.name, value, "key" if value.name == KEY else "given")
        if self.loss.penalty:
            shape = (self.image_input.shape[0], *(1,) * (self.image_input.tensor.rank - 1))
            type_ = self.image_input.tensor.with_shape(shape)
            self.data[EPSILON] = Data(EPSILON, "uniform")
            self.values[EPSILON] = self.graph.add_input(EPSILON, type_)
        if self.redraw_noise:
            for value in self.g.data:
                if value.name != KEY:
                    self._add_data(f"{value.name}.{REDRAWN}", value, draw_of(value))
        for state in (*self.g.states, *self.d.states):
            part = self.g if state.network == GENERATOR else self.d
            source = next(v for v in part.graph.inputs if v.name == state.name)
            self.values[state.name] = self.graph.add_input(state.name, source.type)

    def _add_data(self, name: str, like: Value, draw: Draw) -> None:
        self.data[name] = Data(name, draw)
        self.values[name] = self.graph.add_input(name, like.type)

    # -- networks --------------------------------------------------------------------------------------------------

    def _apply(self, part: _Part, feeds: dict[Value, Value], outputs: Sequence[Value]) -> list[Value]:
        """One application of a network; its batch statistics become outputs, in this order."""
        number = self.applications
        self.applications += 1
        own = {v.name: v for v in part.graph.inputs}
        vectors = {
            own[name]: self.graph.add_input(f"{name}.{number}", own[name].type)
            for e in part.estimates
            for name in e.read
        }
        image = {v: feeds.get(v) or vectors.get(v) or self.values[v.name] for v in part.graph.inputs}
        inner = dict(part.graph.outputs)
        self.copier.copy(part.graph, image, outputs)
        known = dict(self.graph.outputs)
        for estimate in part.estimates:
            read = (f"{estimate.read[0]}.{number}", f"{estimate.read[1]}.{number}")
            self.estimates.append(replace(estimate, read=read))
            self.copier.copy(part.graph, image, [inner[name] for name in estimate.moved])
            self.graph.outputs += [(name, image[inner[name]]) for name in estimate.moved if name not in known]
            known |= dict.fromkeys(estimate.moved, image[inner[estimate.moved[0]]])
        for statistic in part.statistics:
            if inner[statistic.ran] not in image:
                continue
            self.copier.copy(part.graph, image, [inner[statistic.output]])
            output, ran = (f"{name}.application{number}" for name in (statistic.output, statistic.ran))
            self.graph.outputs.append((output, image[inner[statistic.output]]))
            self.statistics.append(replace(statistic, output=output, ran=ran))
        return [image[v] for v in outputs]

    def _given(self, name: str, suffix: str) -> Value:
        """An input of a network; there is one key of random numbers."""
        return self.values[name if name == KEY else name + suffix]

    def _generate(self, suffix: str = "") -> Value:
        feeds = {v: self._given(v.name, suffix) for v in self.g.data}
        return self._apply(self.g, feeds, [self._fake_output()])[0]

    def _score(self, sample: Value, suffix: str = "") -> Value:
        conditions = {v.name for v in self.g.data}
        feeds = {
            v: self._given(v.name, suffix if v.name in conditions else "")
            for v in self.d.data
            if v is not self.image_input
        }
        feeds[self.image_input] = sample
        return self._apply(self.d, feeds, [self.scores])[0]

    def _find_scores(self) -> Value:
        """D's result, or what goes into the sigmoid at its end where the loss is in terms of that."""
        outputs = self.d.outputs
        if len(outputs) != 1:
            raise UnsupportedError(f"the discriminator has {len(outputs)} outputs: one, its scores, is needed")
        last = self.d.graph.producer(outputs[0])
        while last is not None and isinstance(last.op, Reshape):
            last = self.d.graph.producer(last.inputs[0])
        ends = last is not None and last.op == Unary("sigmoid")
        if last is not None and ends and self.loss.logits:
            return last.inputs[0]
        if ends and self.name != "lsgan":
            self.warnings.append(f"the discriminator ends in a sigmoid, which loss {self.name} does not expect")
        return outputs[0]

    # -- losses ----------------------------------------------------------------------------------------------------

    def _compose(self) -> Module:
        self._check_once()
        self.scores = self._find_scores()
        fake = self._generate()
        real_scores = self._score(self.values[self.real])
        fake_scores = self._score(fake)
        self.build.hint = LOSS_D
        loss_d = self.loss.d(self.build, real_scores, fake_scores)
        if self.loss.penalty:
            loss_d = self.build.add(loss_d, self._penalty(fake))
        if self.redraw_noise:
            fake_scores = self._score(self._generate(f".{REDRAWN}"), f".{REDRAWN}")
        self.build.hint = LOSS_G
        loss_g = self.loss.g(self.build, real_scores, fake_scores)
        once = (f"{IMAGE}.once",) if self.once else ()
        self.graph.outputs[:0] = [(LOSS_D, loss_d), (LOSS_G, loss_g), *((name, fake) for name in once)]
        cancel_shifts(self.graph)
        states = (*self.g.states, *self.d.states)
        losses = (LOSS_D, LOSS_G)
        statistics = with_losses(self.graph, losses, self.statistics)
        by_group = {GENERATOR: LOSS_G, DISCRIMINATOR: LOSS_D}
        still = tuple((by_group[s.group], s.name) for s in states if s.kind == "parameter")
        read = {name for e in self.estimates for name in e.read}
        self.graph.inputs = sorted(self.graph.inputs, key=lambda v: v.name in read)
        moved = tuple(self.estimates)
        forward = Forward(tuple(self.data.values()), losses, statistics, once=once, still=still, estimates=moved)
        entry = Entry("forward", "train", self.graph, attributes={"forward": forward})
        return Module(self.graph.name, (entry,), states)

    def _penalty(self, fake: Value) -> Value:
        """gp_weight mean_i (|d D(x_i) / d x_i| - 1)^2 at x = epsilon real + (1 - epsilon) fake."""
        build = self.build
        build.hint = "penalty"
        epsilon, real = self.values[EPSILON], self.values[self.real]
        between = build.add(build.mul(real, epsilon), build.mul(fake, build.sub(build.number(1.0, epsilon), epsilon)))
        scores = self._score(between)
        (slope,) = gradients(self.graph, build.total(scores), [between])
        if slope is None:
            raise UnsupportedError(
                "the discriminator's scores do not depend on its input: there is no gradient to penalise"
            )
        build.hint = "penalty"
        rest = range(1, slope.tensor.rank)
        norm = build.unary("sqrt", build.reduce("sum", build.mul(slope, slope), rest, keepdims=False))
        off = build.sub(norm, 1.0)
        return build.mul(mean(build, build.mul(off, off)), self.gp_weight)
