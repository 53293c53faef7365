"""A model whose random ops read the program's own draws, to be compared with what the program computes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mgc.evaluation.errors import GivenError
from mgc.evaluation.feeding import Feeds
from mgc.functions.draws import KEY, random_numbers
from mgc.isa.functions import function
from mgc.isa.instructions import Vec
from mgc.isa.program import Program

_UNIFORM = ("RandomUniform", "RandomUniformLike", "Bernoulli", "Dropout", "Multinomial")
_NORMAL = ("RandomNormal", "RandomNormalLike")


def with_draws(model: ModelProto, program: Program, fed: Feeds) -> Feeds:
    """Lets the model's random ops, in place, read inputs; the feeds with these instead of the key.

    The importer numbers random ops as it meets them, and so does this.
    """
    steps = [s for i in program.instructions if isinstance(i, Vec) for s in i.steps]
    found = {int(s.attributes[0]): s for s in steps if function(s.function).name.startswith("random_")}
    key, arrays, batched = fed.arrays[KEY], dict(fed.arrays), set(fed.batched)
    nodes: list[NodeProto] = []
    number = -1
    for node in model.graph.node:
        number += draws(node, model.graph)
        step = found.get(number)
        if step is None or not draws(node, model.graph):
            nodes.append(node)
            continue
        kind = function(step.function).name.removeprefix("random_")
        _, each, *shape = map(int, step.attributes)
        if not each and fed.group is not None and fed.samples > fed.group:
            raise GivenError(
                f"--check: {node.op_type} draws for a whole batch at once: run -n {fed.group} to compare it"
            )
        drawn = random_numbers(kind, key if each else key[:1], number, tuple(shape))
        name = f"random.{number}"
        arrays[name] = drawn if each else drawn[0]
        batched.update([name] if each else [])
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * arrays[name].ndim))
        nodes += _reading(node, name, model.graph)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return replace(fed, arrays={n: a for n, a in arrays.items() if n != KEY}, batched=frozenset(batched - {KEY}))


def draws(node: NodeProto, graph: GraphProto) -> bool:
    """Whether a node draws numbers."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in (*_UNIFORM, *_NORMAL):
        return False
    if node.op_type != "Dropout":
        return True
    known = constants(graph)
    ratio, training = (*node.input, "", "")[1:3]
    return bool(np.any(known.get(training, False))) and bool(np.any(known.get(ratio, 0.5)))


def constants(graph: GraphProto) -> Mapping[str, np.ndarray]:
    """Scalars that the graph holds."""
    small = {t.name: numpy_helper.to_array(t) for t in graph.initializer if np.prod(t.dims, dtype=int) == 1}
    for node in graph.node:
        if node.op_type == "Constant":
            for a in node.attribute:
                value = helper.get_attribute_value(a)
                small[node.output[0]] = numpy_helper.to_array(value) if a.name == "value" else np.asarray(value)
    return small


def _reading(node: NodeProto, drawn: str, graph: GraphProto) -> Iterator[NodeProto]:
    """What the node makes of its draws."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    y = node.output[0]
    names = iter(f"{y}/drawn_{n}" for n in range(100))
    pending: list[NodeProto] = []

    def constant(value: float | list[int], dtype: type = np.float32) -> str:
        name = next(names)
        tensor = numpy_helper.from_array(np.asarray(value, dtype))
        pending.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def make(op: str, *inputs: str, to: str = "") -> str:
        name = to or next(names)
        pending.append(helper.make_node(op, list(inputs), [name]))
        return name

    def cast(x: str, elem: int) -> None:
        pending.append(helper.make_node("Cast", [x], [y], to=elem))

    if node.op_type in _NORMAL or node.op_type.startswith("RandomUniform"):
        low = attributes.get("mean" if node.op_type in _NORMAL else "low", 0.0)
        scale = attributes.get("scale", 1.0) if node.op_type in _NORMAL else attributes.get("high", 1.0) - low
        scaled = make("Add", make("Mul", drawn, constant(scale)), constant(low))
        cast(scaled, attributes.get("dtype", TensorProto.FLOAT) or TensorProto.FLOAT)
    elif node.op_type == "Bernoulli":
        cast(make("Less", drawn, node.input[0]), attributes.get("dtype", TensorProto.FLOAT))
    elif node.op_type == "Dropout":
        known = constants(graph)
        ratio = float(np.asarray(known.get((*node.input, "")[1], 0.5)).reshape(()))
        mask = make("GreaterOrEqual", drawn, constant(ratio), to=(*node.output, "")[1])
        scaled = make("Mul", node.input[0], constant(1 / (1 - ratio) if ratio < 1 else 0.0))
        make("Where", mask, scaled, constant(0.0), to=y)
    else:
        powers = make("Exp", make("LogSoftmax", node.input[0]))
        sums = make("CumSum", powers, constant(1, np.int64))
        by_class, by_draw = constant([0, 1, -1], np.int64), constant([0, -1, 1], np.int64)
        passed = make("LessOrEqual", make("Reshape", sums, by_class), make("Reshape", drawn, by_draw))
        counted = make("Where", passed, constant(1.0), constant(0.0))
        cast(
            make("Squeeze", make("ReduceSum", counted, constant([2], np.int64)), constant([2], np.int64)),
            attributes.get("dtype", 6),
        )
    yield from pending
