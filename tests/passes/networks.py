"""Random small networks and their way to level 2 and to a program, without ONNX."""

from collections.abc import Callable
from dataclasses import dataclass

import hypothesis.strategies as st
import numpy as np
from pass_graphs import state_of

from mgc.ir import ops
from mgc.ir.graph import Graph, Value
from mgc.ir.op import Op
from mgc.ir.types import DType, TensorType
from mgc.passes.lowering.lower_linear import LowerLinear
from mgc.passes.lowering.lower_moves import LowerMoves
from mgc.passes.lowering.lower_vec import LowerVec
from mgc.passes.manager import PassManager
from mgc.passes.mapping.plan import EntryPlan
from mgc.passes.pipeline import MAPPING
from mgc.passes.quantizing.calibrate import Scales
from mgc.passes.quantizing.quantize import Quantize
from mgc.passes.scheduling.schedule import Schedule
from mgc.passes.scheduling.solver import SolverOptions
from mgc.passes.state import CompileState
from mgc.targets.codegen.emit import Emit
from mgc.targets.description import Target
from mgc.targets.loader import load_target

F32 = DType.F32


def small_target(**structure: int) -> Target:
    """The default target with few and small crossbars."""
    target = load_target("liu2018")
    shape = {"tiles_per_chip": 6, "macros_per_tile": 2, "crossbars_per_macro": 16} | structure
    return target.model_copy(
        update={
            "crossbar": target.crossbar.model_copy(update={"rows": 16, "cols": 16}),
            "structure": target.structure.model_copy(update=shape),
        }
    )


def with_memory(target: Target, bytes_per_tile: int) -> Target:
    """The target with that much memory in each tile."""
    return target.model_copy(update={"edram": target.edram.model_copy(update={"bytes_per_tile": bytes_per_tile})})


class Network:
    """A level-1 graph of layers on [1, channels, 6, 6] values; every layer gets the name of an ONNX node."""

    def __init__(self, seed: int = 0) -> None:
        self.graph = Graph()
        self.rng = np.random.default_rng(seed)

    def weights(self, *shape: int) -> Value:
        return self.graph.add_constant(self.rng.normal(size=shape).astype(np.float32), "w")

    def add(self, op: Op, *inputs: Value) -> Value:
        return self.graph.add(op, *inputs, sources=[f"{op.name}_{len(self.graph.nodes)}"])

    def conv(self, x: Value, channels: int, kernel: int = 3) -> Value:
        op = ops.Conv((1, 1), (kernel // 2,) * 4, (1, 1))
        return self.add(op, x, self.weights(channels, x.shape[1], kernel, kernel))

    def conv_transpose(self, x: Value, channels: int, kernel: int) -> Value:
        """To twice the size and back, so that shapes stay."""
        up = ops.ConvTranspose((2, 2), (0,) * 4, (0, 0), (1, 1))
        y = self.add(up, x, self.weights(x.shape[1], channels, kernel, kernel))
        rank = len(y.shape)
        return self.add(ops.Slice((0,) * rank, (*y.shape[:2], 6, 6), (1,) * rank), y)


def _layers(net: Network, draw: Callable, pool: list[Value]) -> Value:
    x = draw(st.sampled_from(pool))
    kind = draw(st.sampled_from(["conv", "conv", "transposed", "relu", "leaky", "add", "concat", "pad", "norm"]))
    match kind:
        case "conv":
            return net.conv(x, draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([1, 3])))
        case "transposed":
            return net.conv_transpose(x, draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 3])))
        case "relu":
            return net.add(ops.Unary("relu"), x)
        case "leaky":
            return net.add(ops.Unary("leaky_relu", 0.2), x)
        case "add":
            return net.add(ops.Binary("add"), x, draw(st.sampled_from([v for v in pool if v.shape == x.shape])))
        case "concat":
            return net.add(ops.Concat(1), x, draw(st.sampled_from(pool)))
        case "pad":
            y = net.add(ops.Pad((0, 0, 1, 1, 0, 0, 1, 1), "reflect"), x)
            return net.add(ops.Conv((1, 1), (0,) * 4, (1, 1)), y, net.weights(3, x.shape[1], 3, 3))
        case "norm":
            return net.add(ops.Binary("sub"), x, net.add(ops.Reduce("mean", (2, 3)), x))
    raise AssertionError(kind)


@st.composite
def networks(draw, most=7) -> Graph:
    """A network with one or two inputs and outputs."""
    net = Network(draw(st.integers(0, 9)))
    kinds = TensorType(F32, (1, 3, 6, 6))
    pool = [net.graph.add_input(f"x{k}", kinds) for k in range(draw(st.integers(1, 2)))]
    for _ in range(draw(st.integers(1, most))):
        pool.append(_layers(net, draw, pool))
    net.graph.outputs = [("y", pool[-1])]
    if draw(st.booleans()):
        net.graph.outputs.append(("z", draw(st.sampled_from(pool))))
    net.graph.prune()
    return net.graph


def chain(layers: int = 4, channels: int = 4) -> Graph:
    """conv + relu, again and again."""
    net = Network()
    x = net.graph.add_input("x", TensorType(F32, (1, channels, 6, 6)))
    for _ in range(layers):
        x = net.add(ops.Unary("relu"), net.conv(x, channels))
    net.graph.outputs = [("y", x)]
    return net.graph


def level2(graph: Graph, target: Target) -> Graph:
    """The graph after lower-vec, on the target's arithmetic."""
    passes = (Scales("none"), LowerLinear(), Quantize("minmax"), LowerMoves(), LowerVec())
    return PassManager(passes).run(state_of(graph, target=target)).graph


@dataclass(frozen=True)
class Mapped:
    """What the mapping passes made of one graph."""

    state: CompileState

    @property
    def entry(self):
        return self.state.entry

    @property
    def graph(self) -> Graph:
        return self.entry.graph

    @property
    def plan(self) -> EntryPlan:
        return self.entry.attributes["plan"]

    @property
    def schedule(self):
        return self.plan.schedule

    @property
    def operations(self):
        return self.plan.operations

    @property
    def buffers(self):
        return self.plan.buffers

    @property
    def units(self):
        return self.plan.units

    @property
    def groups(self):
        return self.state.module.attributes["groups"]

    @property
    def split(self):
        return self.state.module.attributes["split"]


def plan(
    graph: Graph,
    target: Target,
    micro_batch: int = 1,
    micro_batches: int = 1,
    batched: bool = False,
    effort: float = SolverOptions.effort,
) -> Mapped:
    """The mapping passes on a level-2 graph after lower-vec."""
    passes = (*MAPPING[:-1], Schedule(effort=effort))
    state = state_of(graph, target=target, micro_batch=micro_batch, micro_batches=micro_batches, batched=batched)
    return Mapped(PassManager(passes).run(state))


def program_of(mapped: Mapped, target: Target):
    """The compiled program of a plan."""
    return Emit().run(mapped.state).module.attributes["program"]
