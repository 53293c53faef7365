"""fuse-loss on graphs by hand: what counts as scores, where a network ends, what stays in the graph and why."""

import numpy as np
import pytest
from loss_files import blocks_of

from mgc.ir.build import Build
from mgc.ir.graph import Graph, evaluate
from mgc.ir.ops import Conv, DiffBlock
from mgc.ir.types import DType, TensorType
from mgc.ir.verifier import verify
from mgc.passes.losses.fuse_loss import fuse_losses

BATCH = 4


class Net:
    """A graph with a trained linear discriminator; `loss` fuses one loss and compares its value."""

    def __init__(self, batch=BATCH, trained=True, bias=True):
        self.graph = Graph("losses")
        self.b = Build(self.graph)
        self.batch, self.bias = batch, bias
        group = "discriminator" if trained else ""
        rng = np.random.default_rng(0)
        weights = rng.standard_normal((3, 1)).astype(np.float32), np.array([0.4], np.float32)
        names = ("D.weight", "D.bias")  # initializers: what is computed from them is not folded
        self.weight, self.shift = (
            self.graph.add_constant(w, n, group=group, onnx_name=n) for w, n in zip(weights, names, strict=True)
        )

    def input(self, name, shape):
        return self.graph.add_input(name, TensorType(DType.F32, tuple(shape)))

    def scores(self, name="x"):
        product = self.b.matmul(self.input(name, (self.batch, 3)), self.weight)
        return self.b.add(product, self.shift) if self.bias else product

    def mean(self, x):
        return self.b.reduce("mean", x, range(x.tensor.rank), keepdims=False)

    def softplus(self, x):
        return self.b.unary("softplus", x)

    def loss(self, value, tolerance=1e-6):
        self.graph.outputs.append(("loss", value))
        result = fuse_losses(self.graph, ["loss"])
        verify(result.graph)
        rng = np.random.default_rng(1)
        feeds = {v.name: rng.standard_normal(v.shape).astype(np.float32) for v in self.graph.inputs}
        before, after = evaluate(self.graph, feeds)["loss"], evaluate(result.graph, feeds)["loss"]
        assert after.shape == before.shape
        np.testing.assert_allclose(after, before, rtol=tolerance, atol=tolerance)
        self.result = result
        self.blocks = [n.op for n in blocks_of(result.graph, dict(result.graph.outputs)["loss"])]
        (report,) = result.reports
        assert report.branches == len(self.blocks)
        return report


def test_a_shared_sigmoid_is_fused_from_below_and_stays_for_others():
    net = Net()
    p = net.b.unary("sigmoid", net.scores())
    net.graph.outputs.append(("probability", p))
    report = net.loss(net.b.neg(net.mean(net.b.unary("log", p))))
    assert (report.kind, report.branches) == ("cross-entropy", 1)
    (block,) = [n for n in net.result.graph.nodes if isinstance(n.op, DiffBlock)]
    assert net.result.graph.producers()[block.inputs[0]].op.name == "binary"
    assert "sigmoid" in [getattr(n.op, "fn", "") for n in net.result.graph.nodes]


def test_several_losses_share_what_is_equal():
    net = Net()
    s = net.scores()
    for name, sign in (("a", 1.0), ("b", 1.0), ("c", -1.0)):
        net.graph.outputs.append((name, net.mean(net.softplus(net.b.mul(s, sign)))))
    result = fuse_losses(net.graph, ["a", "b", "c"])
    assert [(r.name, r.kind) for r in result.reports] == [(n, "cross-entropy") for n in "abc"]
    outputs = dict(result.graph.outputs)
    assert outputs["a"] is outputs["b"]
    assert sum(isinstance(n.op, DiffBlock) for n in result.graph.nodes) == 2


def test_the_bias_of_a_network_that_is_not_trained_stays_below():
    net = Net(trained=False)
    (op,) = (net.loss(net.mean(net.softplus(net.b.neg(net.scores())))), net.blocks)[1]
    assert (op.function, op.target) == ("cross-entropy", 1.0)


def test_a_mean_over_positions_may_be_the_last_layer():
    net = Net()
    x = net.input("x", (BATCH, 2, 6, 6))
    kernel = net.graph.add_constant(np.ones((1, 2, 3, 3), np.float32), "k", group="discriminator")
    conv = net.graph.add(Conv((1, 1), (0, 0, 0, 0), (1, 1), 1), x, kernel)
    pooled = net.b.reduce("mean", net.b.unary("leaky_relu", conv, 0.2), (2, 3), keepdims=False)
    report = net.loss(net.b.neg(net.mean(pooled)))
    assert (report.kind, report.branches) == ("wasserstein", 1)
    (block,) = [n for n in net.result.graph.nodes if isinstance(n.op, DiffBlock)]
    assert block.inputs[0].shape == (BATCH, 1)


def test_a_mean_over_positions_may_be_the_first_of_the_loss():
    net = Net()
    x = net.input("x", (BATCH, 2, 6, 6))
    kernel = net.graph.add_constant(np.ones((1, 2, 3, 3), np.float32), "k", group="discriminator")
    conv = net.graph.add(Conv((1, 1), (0, 0, 0, 0), (1, 1), 1), x, kernel)
    report = net.loss(net.mean(net.b.reduce("mean", net.softplus(conv), (2, 3))))
    assert (report.kind, report.branches) == ("cross-entropy", 1)
    assert net.blocks[0].weight == 1.0
    assert net.blocks[0].count == 0


def test_paths_that_a_projection_discriminator_adds_up_are_one_score():
    net = Net()
    s = net.b.add(net.scores("x"), net.scores("y"))
    report = net.loss(net.mean(net.softplus(net.b.neg(s))))
    assert (report.kind, report.branches) == ("cross-entropy", 1)
    net = Net()
    report = net.loss(net.mean(net.b.add(net.scores("x"), net.scores("y"))))
    assert (report.kind, report.branches) == ("wasserstein", 1)


def test_a_single_sample():
    net = Net(batch=1)
    s, t = net.scores(), 0.9
    report = net.loss(net.b.sub(net.mean(net.softplus(s)), net.mean(net.b.mul(s, t))))
    assert (report.kind, report.branches) == ("cross-entropy", 1)
    assert net.blocks[0].target == 0.9


def test_terms_on_the_same_scores_are_joined_where_that_is_a_known_form():
    net = Net()
    s = net.scores()
    squares = [net.mean(net.b.binary("pow", net.b.sub(s, t), 2.0)) for t in (1.0, 3.0)]
    report = net.loss(net.b.add(*squares))
    assert (report.kind, report.branches) == ("least-squares", 1)
    assert (net.blocks[0].target, net.blocks[0].weight) == (2.0, 2.0)


def test_constants_of_a_loss_are_kept():
    net = Net()
    report = net.loss(net.b.add(net.mean(net.b.add(net.softplus(net.scores()), 0.5)), 0.25))
    assert (report.kind, report.branches) == ("cross-entropy", 1)


def test_a_temperature_goes_below_the_block():
    net = Net()
    report = net.loss(net.mean(net.softplus(net.b.mul(net.scores(), -2.0))))
    assert (report.kind, net.blocks[0].target) == ("cross-entropy", 0.0)


def test_targets_at_run_time_may_be_scaled():
    net = Net()
    s, t = net.scores(), net.input("t", (BATCH, 1))
    smooth = net.b.add(net.b.mul(t, 0.8), 0.1)
    report = net.loss(net.mean(net.b.sub(net.softplus(s), net.b.mul(s, smooth))))
    assert (report.kind, net.blocks[0].targets) == ("cross-entropy", True)


def test_relativistic_with_a_mean_over_the_batch_that_keeps_its_axes():
    net = Net()
    r, f = net.scores("r"), net.scores("f")
    centre = net.b.reduce("mean", f, (0,))
    report = net.loss(net.mean(net.b.unary("relu", net.b.sub(net.b.number(1.0, r), net.b.sub(r, centre)))))
    assert (report.kind, report.branches) == ("relativistic-average", 1)
    assert (net.blocks[0].function, net.blocks[0].target, net.blocks[0].sign) == ("hinge", 1.0, -1)


def test_relativistic_with_the_mean_on_the_left():
    net = Net()
    r, f = net.scores("r"), net.scores("f")
    report = net.loss(net.mean(net.softplus(net.b.sub(net.mean(f), r))))
    assert report.kind == "relativistic-average"
    assert (net.blocks[0].target, net.blocks[0].pairing) == (1.0, "average")


def test_an_unknown_function_of_a_difference_is_tabulated_as_a_pair():
    net = Net()
    report = net.loss(net.mean(net.b.unary("sin", net.b.sub(net.scores("r"), net.scores("f")))), 1e-4)
    assert (report.kind, net.blocks[0].function) == ("relativistic", "tabulated")


@pytest.mark.parametrize("margin", [50.0, 300.0])
def test_corners_far_out_are_seen(margin):
    net = Net()
    s = net.scores()
    report = net.loss(net.mean(net.b.unary("relu", net.b.sub(net.b.number(margin, s), s))))
    assert (report.kind, net.blocks[0].target) == ("hinge", margin)


def test_a_limit_that_means_something_is_no_guard():
    for guard, kind in ((1e-7, "cross-entropy"), (1e-2, "tabulated")):
        net = Net()
        p = net.b.add(net.b.unary("sigmoid", net.scores()), guard)
        report = net.loss(net.b.neg(net.mean(net.b.unary("log", p))), 1e-4)
        assert report.kind == kind
        assert bool(net.result.warnings) == (kind == "cross-entropy")
    net = Net()
    report = net.loss(net.mean(net.b.binary("min", net.softplus(net.scores()), 3.0)), 1e-4)
    assert report.kind == "tabulated"
    assert not net.result.warnings


# -- what stays in the graph -------------------------------------------------------------------------------------------


def test_images_are_no_scores():
    """L1 of what the discriminator reads stays; the adversarial term beside it is fused."""
    net = Net()
    z, wanted = net.input("z", (BATCH, 2)), net.input("wanted", (BATCH, 3))
    w = net.graph.add_constant(np.ones((2, 3), np.float32), "g", group="generator")
    image = net.b.unary("tanh", net.b.matmul(z, w))
    score = net.b.matmul(image, net.weight)
    distance = net.mean(net.b.unary("abs", net.b.sub(image, wanted)))
    report = net.loss(net.b.add(net.mean(net.softplus(net.b.neg(score))), net.b.mul(distance, 100.0)))
    assert (report.kind, report.branches) == ("cross-entropy", 1)
    assert "it is no function of one score, but of 2 tensors" in report.reason or "no score" in report.reason


def test_squares_of_images_are_no_scores_either():
    net = Net()
    z = net.input("z", (BATCH, 2))
    w = net.graph.add_constant(np.ones((2, 3), np.float32), "g", group="generator")
    image = net.b.matmul(z, w)
    score = net.b.matmul(image, net.weight)
    power = net.mean(net.b.mul(image, image))
    report = net.loss(net.b.add(net.mean(net.softplus(net.b.neg(score))), power))
    assert (report.kind, report.branches) == ("cross-entropy", 1)
    assert "goes into a network: it is no score" in report.reason


def test_weight_decay_is_no_loss_of_scores():
    net = Net()
    decay = net.b.mul(net.b.total(net.b.mul(net.weight, net.weight)), 0.01)
    report = net.loss(net.b.add(net.mean(net.scores()), decay))
    assert (report.kind, report.branches) == ("wasserstein", 1)
    assert "computed from parameters alone" in report.reason


def test_weights_that_come_at_run_time_stay():
    net = Net()
    s, w = net.scores(), net.input("w", (BATCH, 1))
    report = net.loss(net.mean(net.b.mul(w, net.softplus(s))))
    assert (report.kind, report.branches) == ("none", 0)
    assert "in no known form" in report.reason


def test_weights_that_differ_stay():
    net = Net()
    w = net.b.array(np.array([[1.0], [2.0], [1.0], [3.0]], np.float32))
    report = net.loss(net.mean(net.b.mul(net.softplus(net.scores()), w)))
    assert (report.kind, report.branches) == ("none", 0)
    assert "differs from element to element" in report.reason


def test_three_tensors_stay():
    net = Net()
    a, b, c = (net.scores(n) for n in "abc")
    report = net.loss(net.mean(net.b.mul(net.b.mul(a, b), c)))
    assert (report.kind, report.branches) == ("none", 0)
    assert "but of 3 tensors" in report.reason


def test_functions_that_are_not_defined_for_all_scores_stay():
    net = Net()
    for inner, reason in (("neg", "not defined, or has no bounded slope, at a score of 0.32"), ("abs", "not bounded")):
        net = Net()
        report = net.loss(net.mean(net.b.unary("log", net.b.unary("softsign", net.b.unary(inner, net.scores())))))
        assert (report.kind, report.branches) == ("none", 0)
        assert reason in report.reason


def test_functions_without_an_enclosure_stay():
    net = Net()
    report = net.loss(net.mean(net.b.unary("asinh", net.scores())))
    assert report.reason == "no bound can be proven for unary asinh"


def test_scores_broadcast_against_labels_of_another_shape():
    """[B, 1] against [B]: PyTorch warns of it, then works on [B, B]."""
    net = Net()
    t = net.b.array(np.array([0.0, 1.0, 1.0, 0.0], np.float32))
    report = net.loss(net.mean(net.b.binary("pow", net.b.sub(net.scores(), t), 2.0)))
    assert (report.kind, report.branches) == ("none", 0)
    assert "broadcast" in report.reason
    net = Net()
    ones = net.b.array(np.ones(BATCH, np.float32))
    report = net.loss(net.mean(net.b.binary("pow", net.b.sub(net.scores(), ones), 2.0)))
    assert (report.kind, net.blocks[0].weight) == ("least-squares", 1.0)


def test_waves_that_vanish_at_round_scores_are_seen():
    net = Net()
    s = net.scores()
    wave = net.b.mul(net.b.unary("sin", net.b.mul(s, 20 * np.pi)), 0.01)
    report = net.loss(net.mean(net.b.add(net.b.mul(s, s), wave)), 1e-3)
    assert report.kind == "tabulated"


@pytest.mark.parametrize("samples", [False, True], ids=["mean", "sample by sample"])
def test_the_square_of_a_gradient_is_no_score(samples):
    """R1's penalty, written out: (1 - h^2) v^T W^T for the scores tanh(x W) v."""
    net = Net(bias=False)
    inner = net.graph.add_constant(np.eye(3, dtype=np.float32) + 0.5, "D.inner", group="D", onnx_name="D.inner")
    hidden = net.b.unary("tanh", net.b.matmul(net.input("x", (BATCH, 3)), inner))
    scores = net.b.matmul(hidden, net.weight)
    slope = net.b.mul(net.b.add(net.b.neg(net.b.mul(hidden, hidden)), 1.0), net.b.reshape(net.weight, (1, 3)))
    slope = net.b.matmul(slope, net.b.transpose(inner, (1, 0)))
    square = net.b.mul(slope, slope)
    if samples:
        square = net.b.reduce("sum", square, (1,), keepdims=False)
    report = net.loss(net.b.add(net.mean(net.softplus(scores)), net.b.mul(net.mean(square), 5.0)))
    assert (report.kind, report.branches) == ("cross-entropy", 1)
    assert "is a derivative of the network, as gradient penalties have it" in report.reason
    assert "%D.inner" in report.reason
