"""Step models as scripts have them, and what their training is by the rules: numerical differentiation in float64.

The oracle knows ONNX's reference evaluator and nothing of the compiler: a gradient is a central difference of the loss,
with everything fixed that is a constant for the phase (what is detached, what an earlier phase made once).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

BATCH = 4
STEP = 1e-5

Arrays = dict[str, np.ndarray]


def node(op: str, inputs: str, output: str, *, detach: bool = False, **attributes) -> onnx.NodeProto:
    """One node; `inputs` are names with blanks between them. `detach` notes what the dynamo exporter notes."""
    made = helper.make_node(op, inputs.split(), output.split(), name=output.split()[0], **attributes)
    if detach:
        made.metadata_props.add(key="namespace", value=": Step/detach: aten.detach.default")
    return made


def detach(x: str, y: str) -> onnx.NodeProto:
    return node("Identity", x, y, detach=True)


def model(
    nodes,
    inputs: Mapping[str, Sequence[int]],
    outputs: Mapping[str, Sequence[int]],
    weights,
    integers: Arrays | None = None,
):
    """A checked ONNX model. `weights`: shapes (drawn), or arrays; `integers`: arrays that stay so."""
    rng = np.random.default_rng(7)
    held = [w if isinstance(w, np.ndarray) else rng.standard_normal(w) * 0.7 for w in weights.values()]
    kind = TensorProto.FLOAT

    def infos(shapes):
        return [helper.make_tensor_value_info(n, kind, s) for n, s in shapes.items()]

    tensors = [numpy_helper.from_array(np.asarray(a).astype(np.float32), n) for n, a in zip(weights, held, strict=True)]
    tensors += [numpy_helper.from_array(a, n) for n, a in (integers or {}).items()]
    graph = helper.make_graph(list(nodes), "step", infos(inputs), infos(outputs), tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made)
    return made


def gan(**more) -> onnx.ModelProto:
    """fake = tanh(z W), scores of a critic of two layers; least squares. The critic's step reads the detached fake."""
    nodes = [
        node("MatMul", "z generator.w", "pre"),
        node("Tanh", "pre", "fake"),
        *critic("fake", "again"),
        *squares("again", "one", "loss_g"),
        *critic("x", "real"),
        detach("fake", "cut"),
        *critic("cut", "made"),
        *squares("real", "one", "loss_real"),
        *squares("made", "zero", "loss_fake"),
        node("Add", "loss_real loss_fake", "loss_d"),
        *more.get("nodes", ()),
    ]
    inputs = {"z": [BATCH, 3], "x": [BATCH, 4], **more.get("inputs", {})}
    outputs = {"loss_g": [], "loss_d": [], "loss_fake": [], "fake": [BATCH, 4], **more.get("outputs", {})}
    weights = {
        "generator.w": (3, 4),
        "discriminator.a": (4, 5),
        "discriminator.b": (5, 1),
        "one": np.ones(()),
        "zero": np.zeros(()),
        **more.get("weights", {}),
    }
    return model(nodes, inputs, outputs, weights)


def critic(x: str, y: str) -> list[onnx.NodeProto]:
    return [
        node("MatMul", f"{x} discriminator.a", f"{y}.1"),
        node("Tanh", f"{y}.1", f"{y}.2"),
        node("MatMul", f"{y}.2 discriminator.b", y),
    ]


def squares(x: str, target: str, y: str) -> list[onnx.NodeProto]:
    """mean (x - target)^2"""
    off = f"{y}.off"
    return [
        node("Sub", f"{x} {target}", off),
        node("Mul", f"{off} {off}", f"{y}.square"),
        node("ReduceMean", f"{y}.square", y, keepdims=0),
    ]


def with_features(cut: bool) -> onnx.ModelProto:
    """A `gan` whose discriminator compares with features of its own, detached if `cut`: their weights stand still."""
    more = [
        node("MatMul", "x discriminator.e", "features"),
        detach("features", "target") if cut else node("Identity", "features", "target"),
        node("Sub", "real target", "apart"),
        node("Mul", "apart apart", "apart.2"),
        node("ReduceMean", "apart.2", "near", keepdims=0),
        node("Add", "loss_d near", "loss_near"),
    ]
    return gan(nodes=more, outputs={"loss_near": []}, weights={"discriminator.e": (4, 1)})


def feeds(proto: onnx.ModelProto, iterations: int, carried: Sequence[str] = ()) -> list[Arrays]:
    """A batch for each iteration."""
    rng = np.random.default_rng(3)
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in proto.graph.input}
    drawn = {n: s for n, s in shapes.items() if n not in carried}
    return [{n: rng.standard_normal(s).astype(np.float32) for n, s in drawn.items()} for _ in range(iterations)]


@dataclass
class Follower:
    """Trains by the rules with plain gradient descent. phases: (name, loss, rate); groups: patterns by phase."""

    proto: onnx.ModelProto
    phases: Sequence[tuple[str, str, float]]
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    once: Sequence[str] = ()
    carry: Mapping[str, str] = field(default_factory=dict)
    stopped: Sequence[str] = ()
    reported: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.state = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in self.proto.graph.initializer}
        self.detached = [n.output[0] for n in self.proto.graph.node if n.metadata_props] + list(self.stopped)
        self.carried: Arrays = {}
        self.cut: dict[tuple[str, ...], ReferenceEvaluator] = {}

    def evaluate(
        self, feed: Mapping[str, np.ndarray], wanted: Sequence[str], fixed: Mapping[str, np.ndarray]
    ) -> Arrays:
        """Values by name, with others fixed; those that do not depend on anything unfixed, too."""
        key = (*sorted(fixed), "|", *wanted)
        if key not in self.cut:
            graph = onnx.GraphProto(name="cut")
            needed, nodes = set(wanted) - set(fixed), []
            for each in reversed(self.proto.graph.node):
                if needed & set(each.output):
                    nodes.insert(0, each)
                    needed |= set(each.input) - set(fixed)
            graph.node.extend(nodes)
            known = {*fixed, *feed, *self.state}
            graph.input.extend(helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in sorted(known))
            graph.output.extend(
                helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in wanted if n not in fixed
            )
            self.cut[key] = ReferenceEvaluator(helper.make_model(graph, opset_imports=self.proto.opset_import))
        known = {k: np.asarray(v, np.float64) for k, v in {**self.state, **feed, **fixed}.items()}
        names = [n for n in wanted if n not in fixed]
        found = dict(zip(names, self.cut[key].run(None, known), strict=True)) if names else {}
        return {n: np.asarray(found[n] if n in found else known[n]) for n in wanted}

    def needs(self, loss: str, stop: Sequence[str]) -> set[str]:
        needed = {loss}
        for each in reversed(self.proto.graph.node):
            if any(o in needed and o not in stop for o in each.output):
                needed |= set(each.input)
        return needed

    def iterate(self, feed: Arrays) -> Arrays:
        """One iteration; gives what it reports. What phases leave is the value that the last of them computed."""
        feed = {**feed, **self.carried}
        kept: Arrays = {}
        left: Arrays = {}
        results: Arrays = {}
        for name, loss, rate in self.phases:
            needed = self.needs(loss, list(kept))
            inner = [o for n in self.proto.graph.node for o in n.output if o in needed and o not in kept]
            values = self.evaluate(feed, inner, kept)
            constant = {**kept, **{n: values[n] for n in self.detached if n in values}}
            gradients = {
                p: self.slope(feed, loss, p, constant)
                for p in self.state
                if p in needed and any(fnmatchcase(p, g) for g in self.groups.get(name, [f"{name}.*"]))
            }
            results[loss] = values[loss]
            left |= values
            kept |= {n: values[n] for n in self.once if n in values}
            for p, g in gradients.items():
                self.state[p] = self.state[p] - rate * g
        wanted = [*self.reported, *self.carry.values()]
        last = self.evaluate(feed, wanted, left) if wanted else {}
        self.carried = {i: last[o] for i, o in self.carry.items()} if self.carry else {}
        return results | {n: last[n] for n in self.reported}

    def slope(self, feed: Arrays, loss: str, parameter: str, constant: Arrays) -> np.ndarray:
        start = self.state[parameter]
        found = np.zeros_like(start)
        for at in np.ndindex(start.shape):
            ends = []
            for sign in (1, -1):
                self.state[parameter] = start.copy()
                self.state[parameter][at] += sign * STEP
                ends.append(float(self.evaluate(feed, [loss], constant)[loss]))
            found[at] = (ends[0] - ends[1]) / (2 * STEP)
        self.state[parameter] = start
        return found
