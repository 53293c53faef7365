"""Phases unrolled into steps: versions, sharing, several critic steps, what is computed and what is not."""

import numpy as np
import pytest
from iterations import graph_of, iterate
from oracle import OrtStep, load, network
from small import batch, linear_gan

from mgc.ir.build import Build
from mgc.ir.graph import Graph
from mgc.ir.ops import Adam, BatchNorm, Conv, ConvTranspose, ConvWeightGrad, MatMul, Sgd, Update
from mgc.ir.text import parse_graph, print_graph
from mgc.ir.training import Phase
from mgc.passes.training.model import step_model

D, G = Phase("dis", "loss_d"), Phase("gen", "loss_g")


def by_hand(states, data, rate=0.1):
    """One D step, then one G step against the updated D."""
    g, d = states["gen.w"].astype(np.float64), states["dis.w"].astype(np.float64)
    z, x = data["z"].astype(np.float64), data["x"].astype(np.float64)
    fake = z @ g
    real_scores, fake_scores = x @ d, fake @ d
    loss_d = float(np.mean(real_scores * fake_scores))
    count = len(z)
    d = d - rate * (x.T @ fake_scores + fake.T @ real_scores) / count
    loss_g = -float(np.mean(fake @ d))
    g = g + rate * z.T @ np.ones((count, 1)) @ d.T / count
    return loss_d, loss_g, {"gen.w": g, "dis.w": d}


def test_the_generator_sees_the_updated_discriminator():
    iteration = iterate(linear_gan(), [D, G], Sgd(0.1))
    states, data = iteration.initial(), batch(1)
    losses, new = iteration.run([data], states)
    loss_d, loss_g, expected = by_hand(states, data)
    assert losses["loss_d"] == pytest.approx(loss_d, rel=1e-5)
    assert losses["loss_g"] == pytest.approx(loss_g, rel=1e-5)
    for name, value in expected.items():
        np.testing.assert_allclose(new[name], value, rtol=1e-5)


def test_each_phase_reads_the_learning_rate_and_clip_it_was_given():
    phases = [Phase("dis", "loss_d", lr=0.5, clip=0.25), Phase("gen", "loss_g")]
    iteration = iterate(linear_gan(), phases, Sgd(0.1))
    updates = {n.inputs[0].name: n.op for n in iteration.step.graph.nodes if isinstance(n.op, Update)}
    assert updates == {"dis.w": Update(Sgd(0.5), 0.25), "gen.w": Update(Sgd(0.1))}
    _, new = iteration.run([batch(2)], iteration.initial())
    assert np.max(np.abs(new["dis.w"])) <= 0.25


def test_the_fake_is_generated_once():
    iteration = iterate(linear_gan(), [D, G], Sgd(0.1))
    graph = iteration.step.graph
    made = [n for n in graph.nodes if isinstance(n.op, MatMul) and n.inputs[0].name == "z"]
    assert len(made) == 1
    # in the other order the discriminator must see the new generator's
    graph = iterate(linear_gan(), [G, D], Sgd(0.1)).step.graph
    assert len([n for n in graph.nodes if isinstance(n.op, MatMul) and n.inputs[0].name == "z"]) == 2


def test_the_discriminators_phase_computes_no_gradient_of_the_generator():
    model = linear_gan()
    alone = iterate(model, [D], Sgd(0.1)).step
    # z g, x d, fake d; two products for the gradient of d
    assert sum(isinstance(n.op, MatMul) for n in alone.graph.nodes) == 5
    assert [s.name for s in alone.states] == ["gen.w", "dis.w"]
    assert [s.name for s in alone.written()] == ["dis.w"]


def test_several_critic_steps_are_a_segment_of_their_own():
    phases = [Phase("dis", "loss_d", steps=3), G]
    iteration = iterate(linear_gan(), phases, Adam(0.01))
    assert [(s.repeats, s.name) for s in iteration.steps] == [(2, "dis"), (1, "dis and gen")]
    assert iteration.batches == 3
    assert {s.name for s in iteration.states} >= {"gen.w", "dis.w", "dis.steps", "gen.steps", "dis.w.adam.m"}
    _, new = iteration.run([batch(k) for k in range(3)], iteration.initial())
    assert (new["dis.steps"], new["gen.steps"]) == (3, 1)
    # wherever the phase stands, its further steps come before the batch that all phases share
    later = iterate(linear_gan(), [G, Phase("dis", "loss_d", steps=2)], Sgd(0.1))
    assert [(s.repeats, s.name) for s in later.steps] == [(1, "dis"), (1, "gen and dis")]


def test_onnx_runtime_runs_it_as_numpy_does():
    iteration = iterate(linear_gan(), [D, G], Adam(0.05, 0.5, 0.9))
    runner = OrtStep(iteration.step)
    states = same = iteration.initial()
    for k in range(4):
        losses, states = iteration.run([batch(k)], states)
        found, same = runner.run(batch(k), same)
        for name in losses:
            np.testing.assert_allclose(found[name], losses[name], rtol=1e-4)
        for name in states:
            np.testing.assert_allclose(same[name], states[name], rtol=1e-4, atol=1e-6)


def test_golden_text(golden):
    """The whole step, and the text form of what training adds."""
    step = iterate(linear_gan(), [Phase("dis", "loss_d", clip=0.1), G], Adam(0.01, 0.5, 0.999)).step
    golden("linear_gan.ir", print_graph(step.graph))
    assert print_graph(parse_graph(print_graph(step.graph))) == print_graph(step.graph)


def test_gradient_ops_name_the_op_they_belong_to():
    step = iterate(linear_gan(), [D, G], Sgd(0.1)).step
    named = {s for n in step.graph.nodes for s in n.sources}
    assert named == {"generator", "critic", "loss"}


def test_a_parameter_without_effect_stays_and_is_mentioned():
    model = linear_gan()
    phases = [Phase("dis", "loss_d"), Phase("gen", "loss_x")]
    graph = graph_of(model)
    x = next(v for v in graph.inputs if v.name == "x")
    build = Build(graph)
    graph.outputs.append(("loss_x", build.reduce("mean", x, (0, 1), keepdims=False)))
    iteration = iterate(model, phases, Adam(0.1))
    assert iteration.warnings == ["phase gen: without effect on loss_x, so not changed: gen.w"]
    assert "gen.steps" not in {s.name for s in iteration.states}
    states = iteration.initial()
    _, new = iteration.run([batch(0)], states)
    np.testing.assert_array_equal(new["gen.w"], states["gen.w"])


@pytest.mark.parametrize("exporter", ["plain", "ts"])
def test_the_cost_of_a_dcgan_step(exporter):
    """Products of a step: forward passes of G once and D three times, and no gradient that nobody needs."""
    phases = [Phase("discriminator", "loss_d"), Phase("generator", "loss_g")]
    model = step_model(network(load(f"step_dcgan_{exporter}")), phases, warnings=[])
    graph: Graph = iterate(model, phases, Sgd(0.1)).step.graph
    assert not any(isinstance(n.op, BatchNorm) for n in graph.nodes)
    count = {op: sum(isinstance(n.op, op) for n in graph.nodes) for op in (Conv, ConvTranspose, ConvWeightGrad)}
    # D: 4 layers on real, fake and fake again; 4 weight gradients on real and on fake; input gradients of 3 layers on
    # each of these and of 4 on the way to G. G: 3 layers, 3 weight gradients, input gradients of 2.
    assert count == {Conv: 12 + 2, ConvTranspose: 3 + 3 + 3 + 4, ConvWeightGrad: 8 + 3}


def test_with_old_versions_each_phase_is_as_if_it_were_alone():
    """`--dataflow shared`: the generator sees the discriminator before its update, and its scores are taken over."""
    model, data = linear_gan(), batch(1)
    iteration = iterate(model, [D, G], Sgd(0.1), old_versions=True)
    states = iteration.initial()
    losses, new = iteration.run([data], states)
    for phase, name in ((D, "dis.w"), (G, "gen.w")):
        alone = iterate(model, [phase], Sgd(0.1))
        expected, other = alone.run([data], alone.initial())
        assert losses[phase.loss] == expected[phase.loss]
        np.testing.assert_array_equal(new[name], other[name])
    _, exact = iterate(model, [D, G], Sgd(0.1)).run([data], states)
    assert not np.allclose(new["gen.w"], exact["gen.w"])
    scores = [n for n in iteration.step.graph.nodes if isinstance(n.op, MatMul) and n.inputs[1].name == "dis.w"]
    assert len(scores) == 2  # real and fake, once each


def test_a_dcgan_with_old_versions_runs_the_discriminator_twice():
    phases = [Phase("discriminator", "loss_d"), Phase("generator", "loss_g")]
    model = step_model(network(load("step_dcgan_ts")), phases, warnings=[])
    graph: Graph = iterate(model, phases, Sgd(0.1), old_versions=True).step.graph
    assert sum(isinstance(n.op, Conv) for n in graph.nodes) == 8 + 2  # and input gradients of the generator's layers
