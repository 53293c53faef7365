"""Random ops in a training step: one mask forward and backward, new ones wherever a network is run anew."""

import numpy as np
from iterations import iterate
from onnx import TensorProto, helper, numpy_helper
from oracle import network

from mgc.frontend.training_model import load_trainable
from mgc.ir.graph import evaluate
from mgc.ir.ops import Random, Sgd
from mgc.ir.training import Phase
from mgc.isa.functions.random import KEY, keys
from mgc.passes.training.model import step_model

Z = np.random.default_rng(1).normal(size=(8, 6)).astype(np.float32)


def two_networks():
    """image = dropout(z G), loss = mean(dropout(image) D) for both phases."""
    rng = np.random.default_rng(2)
    values = {"generator.w": rng.normal(size=(6, 5)), "discriminator.w": rng.normal(size=(5, 1)), "r": 0.4}
    tensors = [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in values.items()]
    tensors.append(numpy_helper.from_array(np.bool_(True), "t"))
    nodes = [
        helper.make_node("MatMul", ["z", "generator.w"], ["g"]),
        helper.make_node("Dropout", ["g", "r", "t"], ["image"]),
        helper.make_node("Dropout", ["image", "r", "t"], ["d"]),
        helper.make_node("MatMul", ["d", "discriminator.w"], ["s"]),
        helper.make_node("ReduceMean", ["s"], ["loss"], keepdims=0),
        helper.make_node("Neg", ["loss"], ["loss_d"]),
        helper.make_node("Identity", ["loss"], ["loss_g"]),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in
             (("z", [8, 6]), ("loss_d", []), ("loss_g", []))]  # fmt: skip
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def iteration(phases=("generator", "discriminator")):
    chosen = [Phase(name, f"loss_{name[0]}") for name in phases]
    source = load_trainable(two_networks().SerializeToString(), batch=8)
    return iterate(step_model(network(source), chosen, {}, warnings=[]), chosen, Sgd(0.25))


def consistent(graph, states):
    """Whether G's loss, linear in its weights, is these times their gradient."""
    found = evaluate(graph, {**states, "z": Z, KEY: keys(0, 0, 8)})
    gradient = (states["generator.w"] - found["generator.w.next"]) / 0.25
    return abs(float(found["loss_g"]) - float((states["generator.w"] * gradient).sum())) < 1e-5


def test_a_mask_that_is_drawn_twice_is_found():
    made = iteration(["generator"])
    graph, states = made.step.graph, made.initial()
    states = {v.name: states[v.name] for v in graph.inputs if v.name in states}
    assert consistent(graph, states)
    draws = [n for n in graph.nodes if isinstance(n.op, Random)]
    assert len(draws) == 2
    for draw in draws:
        mask = graph.uses(draw.outputs[0])[0].outputs[0]
        _, *backward = graph.uses(mask)
        assert backward, "the backward half reads the mask of the forward half"
        mutant = graph.copy()
        copied = {v.name: v for v in mutant.values()}
        old = next(n for n in mutant.nodes if copied[draw.outputs[0].name] in n.outputs)
        compare = next(n for n in mutant.nodes if copied[mask.name] in n.outputs)
        again = mutant.add(Random("uniform", 9, old.op.shape, old.op.each), *old.inputs, name="again", at=compare)
        other = mutant.add(compare.op, again, compare.inputs[1], name="other", at=compare)
        for reader in mutant.uses(copied[mask.name])[1:]:
            reader.inputs = tuple(other if v is copied[mask.name] else v for v in reader.inputs)
        mutant.sort()
        assert not consistent(mutant, states)


def test_a_network_that_is_run_anew_draws_anew():
    """The first phase draws for G and D, the second for both again, which have changed or read what has."""
    graph = iteration().step.graph
    draws = [n.op for n in graph.nodes if isinstance(n.op, Random)]
    assert sorted(d.number for d in draws) == [0, 1, 2, 3]
    # G is as it was in the second phase: its numbers serve again, D has changed
    graph = iteration(["discriminator", "generator"]).step.graph
    assert sorted(n.op.number for n in graph.nodes if isinstance(n.op, Random)) == [0, 1]
