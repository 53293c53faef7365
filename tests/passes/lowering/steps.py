"""Small training steps made by hand, and level-2 graphs run beside them."""

import numpy as np
from iterations import Step, iterate

from mgc.ir.build import Build
from mgc.ir.graph import Graph, evaluate
from mgc.ir.module import Entry, Module
from mgc.ir.ops import Sgd
from mgc.ir.training import NEXT, Data, Forward, Phase, State
from mgc.ir.types import DType, TensorType
from mgc.passes.mapping.residents import Residents

PHASE = Phase("net", "loss")


def tensor(*shape):
    """The type of a float32 tensor."""
    return TensorType(DType.F32, shape)


def step_of(make, data, weights, rule=None, phase=PHASE):
    """The step that trains `weights` (name -> array) on the loss mean(y * target), y = make(build, values).

    `data` maps names of inputs to shapes; "target" is one of y's shape.
    """
    graph = Graph("step")
    inputs = {name: graph.add_input(name, tensor(*shape)) for name, shape in data.items()}
    values = {**inputs}
    shapes = {v.name for v in inputs.values()}
    states = [State(name, "parameter", value, phase.name, name) for name, value in weights.items()]
    # the target has the result's shape, which is known when the network is built
    for state in states:
        values[state.name] = graph.add_input(state.name, tensor(*state.initial.shape))
    build = Build(graph)
    y = make(build, values)
    target = graph.add_input("target", y.type)
    graph.inputs.insert(len(shapes), graph.inputs.pop())
    loss = build.reduce("mean", build.mul(y, target), range(y.tensor.rank), keepdims=False)
    graph.outputs = [("loss", loss)]
    forward = Forward((*map(Data, data), Data("target")), ("loss",))
    entry = Entry("forward", "train", graph, attributes={"forward": forward})
    model = Module("step", (entry,), tuple(states))
    return iterate(model, [phase], rule or Sgd(0.1, 0.9)).step


def feeds_of(step, rng):
    """Random data for one iteration."""
    types = {v.name: v.type for v in step.graph.inputs}
    return {d.name: rng.standard_normal(types[d.name].shape).astype(np.float32) for d in step.data}


def initial(step: Step):
    """The states before the first iteration."""
    return {s.name: s.initial for s in step.states}


def run_lowered(graph: Graph, residents: Residents, feeds, homes):
    """(outputs, what the residents hold then) of a level-2 graph."""
    out = evaluate(graph, {**feeds, **homes})
    return out, {name: out.get(name + NEXT, held) for name, held in homes.items()}


def assert_close(found, expected, tolerance=1e-5):
    """Every state within a tolerance of its largest entry (or of 0.01, if that is more)."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(float(np.abs(value).max(initial=0.0)), 0.01)
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance * scale, err_msg=name)


def _box(flat, base, extents, strides):
    return np.lib.stride_tricks.as_strided(flat[base:], extents, [s * flat.itemsize for s in strides])


def _boxes(resident, state, home):
    """The same entries of a state and of the resident that holds them."""
    piece = resident.piece
    own = _box(state.reshape(-1), piece.base, piece.extents, piece.strides)
    return own, _box(home.reshape(-1), piece.home_base, piece.extents, piece.home_strides)


def to_homes(residents: Residents, states):
    """What the residents hold for states in the model's shapes (untrained weights included)."""
    homes = {}
    for resident in residents.all:
        homes[resident.name] = home = resident.initial.copy()
        if resident.piece is not None:
            value = np.ascontiguousarray(states[resident.state]).astype(home.dtype, copy=False)
            own, there = _boxes(resident, value, home)
            there[...] = own
    return homes


def to_states(residents: Residents, homes, base):
    """The states in the model's shapes for what residents hold; entries that no cell holds are `base`'s."""
    states = {name: np.array(value, order="C") for name, value in base.items()}
    for resident in residents.all:
        if resident.piece is not None:
            own, there = _boxes(resident, states[resident.state], np.ascontiguousarray(homes[resident.name]))
            own[...] = there
    return states
