"""What a script does with the values of its step, in the forward half: penalties, and what phases leave behind."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from mgc.ir.build import Build
from mgc.ir.graph import Graph, Value
from mgc.ir.ops import Concat, Detach, Gather
from mgc.ir.training import Carry, Draw, Left, Penalty, Replay, Script, Statistic
from mgc.ir.types import DType, TensorType
from mgc.passes.manager import UnsupportedError
from mgc.passes.training.differentiate import gradients
from mgc.passes.training.losses import mean


def add_penalty(graph: Graph, named: Mapping[str, Value], penalty: Penalty) -> Value:
    """The value of the penalty's loss with the penalty added, at the end of the graph. `named` are the values by name.

    UnsupportedError for a score or an input that has no samples along axis 0, or no effect of the one on the other.
    """
    loss, score, x = named[penalty.loss], named[penalty.score], named[penalty.input]
    where = f"--penalty {penalty.loss}:{penalty.score}:{penalty.input}"
    for name, value in ((penalty.score, score), (penalty.input, x)):
        if not value.tensor.dtype.is_float or not value.shape or value.shape[0] != x.shape[0]:
            raise UnsupportedError(f"{where}: {name} is {value.type}; floats with samples along axis 0 are needed")
    build = Build(graph, hint=f"{penalty.loss}.penalty")
    (slope,) = gradients(graph, build.total(score), [x])
    if slope is None:
        raise UnsupportedError(f"{where}: {penalty.score} does not depend on {penalty.input}: there is no gradient")
    build.hint = f"{penalty.loss}.penalty"
    squares = build.reduce("sum", build.mul(slope, slope), range(1, slope.tensor.rank), keepdims=False)
    if penalty.center == 0:
        term, power = squares, penalty.power / 2
    else:
        term, power = build.sub(build.unary("sqrt", squares), penalty.center), penalty.power
        term = build.unary("relu", term) if penalty.one_sided else term
    term = build.mul(term, term) if power == 2 else term if power == 1 else build.binary("pow", term, power)
    return build.add(loss, build.reshape(build.mul(mean(build, term), penalty.weight), loss.shape))


def leave_behind(graph: Graph, losses: Sequence[str], wanted: Mapping[str, Value]) -> tuple[Left, ...]:
    """Outputs added to the forward half for what the end of the iteration needs of its phases: of each value of
    `wanted` that a loss depends on the value itself, as NAME.left, of any other one the nearest such values that it is
    made of.
    """
    outputs, producers = dict(graph.outputs), graph.producers()
    above = {loss: _above(graph, [outputs[loss]]) for loss in losses}
    stack, seen = list(wanted.values()), set[Value]()
    called = {value: name for name, value in reversed(list(wanted.items()))}
    found: list[Left] = []
    while stack:
        value = stack.pop(0)
        if value in seen or value not in producers:
            continue
        seen.add(value)
        of = tuple(loss for loss in losses if value in above[loss])
        if not of:
            stack += producers[value].inputs
            continue
        name = called.get(value, value.name)
        found.append(Left(f"{name}.left", of))
        graph.outputs.append((found[-1].output, value))
    return tuple(found)


def with_losses(graph: Graph, losses: Sequence[str], statistics: Sequence[Statistic]) -> tuple[Statistic, ...]:
    """The statistics with the losses that need each application, in a graph where equal work is not shared yet."""
    outputs = dict(graph.outputs)
    above = {loss: _above(graph, [outputs[loss]]) for loss in losses}
    return tuple(replace(s, losses=tuple(loss for loss in losses if outputs[s.ran] in above[loss])) for s in statistics)


def _above(graph: Graph, values: Collection[Value]) -> set[Value]:
    """Values and all that they are computed from."""
    found = set(values)
    for node in reversed(graph.nodes):
        if any(v in found for v in node.outputs):
            found.update(node.inputs)
    return found


def parse_carry(text: str) -> Carry:
    """A carry from "INPUT=OUTPUT". UnsupportedError if it is not written so."""
    name, equals, output = (part.strip() for part in text.partition("="))
    if not name or not output or not equals:
        raise UnsupportedError(f"--carry {text}: write INPUT=OUTPUT, such as k=k_next")
    return Carry(name, output)


def parse_penalty(text: str) -> Penalty:
    """A penalty from "LOSS:SCORE:INPUT[,center=1|0][,p=2][,weight=W][,sides=two|one]". UnsupportedError says which part
    is wrong.
    """
    values, *options = (part.strip() for part in text.split(","))
    names = values.split(":")
    if len(names) != 3 or not all(names):
        raise UnsupportedError(f"--penalty {text}: write LOSS:SCORE:INPUT, such as loss_d:scores:interpolates")
    given: dict[str, float] = {}
    for option in options:
        key, _, value = (part.strip() for part in option.partition("="))
        if key not in ("center", "p", "weight", "sides"):
            raise UnsupportedError(f"--penalty {text}: {option!r} is none of center=1|0, p=P, weight=W, sides=two|one")
        if key in given:
            raise UnsupportedError(f"--penalty {text}: {key} is given twice")
        try:
            given[key] = ("two", "one").index(value) if key == "sides" else float(value)
        except ValueError as error:
            raise UnsupportedError(f"--penalty {text}: {option!r} is no value of {key}") from error
    center, power, weight = given.get("center", 1.0), given.get("p", 2.0), given.get("weight", 10.0)
    if center not in (0, 1) or not (math.isfinite(power) and power > 0 and math.isfinite(weight)):
        raise UnsupportedError(f"--penalty {text}: center is 1 or 0, p a positive number, weight a number")
    loss, score, given_input = names
    return Penalty(loss, score, given_input, center, power, weight, bool(given.get("sides", 0)))


def parse_replay(text: str) -> Replay:
    """A replay from "INPUT=OUTPUT,size=N". UnsupportedError if it is not written so."""
    values, _, option = text.partition(",")
    name, _, output = (part.strip() for part in values.partition("="))
    key, _, size = (part.strip() for part in option.partition("="))
    if not name or not output or key != "size" or not size.isdecimal() or int(size) < 1:
        raise UnsupportedError(f"--replay {text}: write INPUT=OUTPUT,size=N, such as fake_a_=fake_a,size=50")
    return Replay(name, output, int(size))


def add_replay(graph: Graph, replay: Replay) -> dict[str, Draw]:
    """Puts samples out of a pool, in place, where the graph reads an input. The pool is an input, INPUT.pool, and what
    it is then the output of that name. Gives the inputs that say by number what it gives and keeps.
    """
    inputs, made = {v.name: v for v in graph.inputs}, dict(graph.outputs)[replay.output]
    old, pool = inputs[replay.input], f"{replay.input}.pool"
    where = f"--replay {replay.input}={replay.output}"
    if old.type != made.type or not old.shape:
        raise UnsupportedError(f"{where}: {replay.input} is {old.type}, {replay.output} is {made.type}: not alike")
    if made in _from(graph, {old}):
        raise UnsupportedError(f"{where}: {replay.output} is made of {replay.input} itself")
    held = graph.add_input(pool, old.tensor.with_shape((replay.size, *old.shape[1:])))
    pick = graph.add_input(f"{pool}.pick", TensorType(DType.I64, old.shape[:1]))
    keep = graph.add_input(f"{pool}.keep", TensorType(DType.I64, (replay.size,)))
    build = Build(graph, hint=pool)
    every = build.emit(Concat(0), held, build.emit(Detach(), made))
    graph.replace({old: build.emit(Gather(0), every, pick)})
    graph.inputs.remove(old)
    graph.outputs.append((pool, build.emit(Gather(0), every, keep)))
    graph.sort()
    return {pick.name: "pick", keep.name: "keep"}


def _from(graph: Graph, values: set[Value]) -> set[Value]:
    """Values and all that is computed from them."""
    found = set(values)
    for node in graph.nodes:
        if any(v in found for v in node.inputs):
            found.update(node.outputs)
    return found


def check_script(script: Script, inputs: Mapping[str, Value], outputs: Mapping[str, Value]) -> None:
    """UnsupportedError where a script names what the model has not, or carries what does not fit."""
    for name in script.once:
        if name in inputs:
            raise UnsupportedError(f"--once {name}: it is an input, which is given once as it is")
    for replay in script.replays:
        if replay.input not in inputs or replay.input in {c.input for c in script.carries}:
            raise UnsupportedError(
                f"--replay {replay.input}={replay.output}: the model's inputs are {', '.join(inputs) or 'none'}"
            )
    taken: set[str] = set()
    for carry in script.carries:
        where = f"--carry {carry.input}={carry.output}"
        if carry.input not in inputs:
            raise UnsupportedError(f"{where}: the model's inputs are {', '.join(inputs) or 'none'}")
        if carry.input in taken:
            raise UnsupportedError(f"{where}: {carry.input} is carried twice")
        taken.add(carry.input)
        given, made = inputs[carry.input], outputs[carry.output]
        if given.type != made.type:
            raise UnsupportedError(f"{where}: {carry.input} is {given.type}, {carry.output} is {made.type}: not alike")


def carried_outputs(script: Script, outputs: Mapping[str, Value]) -> list[tuple[Carry, Value]]:
    """Each carry under the name of the forward half's output, and that output's value; pools come last."""
    names = {c.input: c.output for c in script.carries} | {f"{r.input}.pool": f"{r.input}.pool" for r in script.replays}
    return [(Carry(name, f"{name}.carried"), outputs[output]) for name, output in names.items()]
