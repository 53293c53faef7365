"""Losses over classes: values as ONNX's evaluator has them, gradients by numerical differentiation of those."""

import numpy as np
import onnx
import pytest
from iterations import iterate
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from oracle import network

from mgc.frontend.training_model import load_trainable
from mgc.ir.ops import Sgd
from mgc.ir.training import Phase
from mgc.passes.training.model import step_model

N, C = 5, 4
WEIGHTS = np.array([0.5, 1.0, 2.0, 1.5])


def class_model(op, rest, reduction, weights, ignored, note="", elem=np.float32):
    """loss of scores d.w [N, C, ...] by labels y; where the loss is none, its sum of squares."""
    attributes = {"reduction": reduction} | ({} if ignored is None else {"ignore_index": ignored})
    nodes = [helper.make_node("LogSoftmax", ["d.w"], ["logs"], axis=1)] if op.startswith("Neg") else []
    nodes.append(
        helper.make_node(op, ["logs" if nodes else "d.w", "y", *(["weights"] if weights else [])], ["l"], **attributes)
    )
    if note:
        nodes[-1].metadata_props.add(key="pkg.torch.onnx.fx_node", value=note)
    if reduction == "none":
        nodes += [
            helper.make_node("Mul", ["l", "l"], ["q"]),
            helper.make_node("ReduceSum", ["q"], ["loss"], keepdims=0),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["l"], ["loss"]))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(elem))
    scores = np.random.default_rng(0).normal(size=(N, C, *rest)).astype(elem)
    tensors = [numpy_helper.from_array(scores, "d.w")]
    tensors += [numpy_helper.from_array(WEIGHTS.astype(elem), "weights")] if weights else []
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("y", TensorProto.INT64, [N, *rest])],
        [helper.make_tensor_value_info("loss", kind, [])], tensors,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), scores


def numerical(model, scores, labels):
    """The loss and its gradient by central differences, float64."""

    def loss(s):
        fixed = onnx.ModelProto()
        fixed.CopyFrom(model)
        next(t for t in fixed.graph.initializer if t.name == "d.w").CopyFrom(numpy_helper.from_array(s, "d.w"))
        return float(ReferenceEvaluator(fixed).run(None, {"y": labels})[0])

    gradient, step = np.zeros_like(scores), 1e-5
    for at in np.ndindex(*scores.shape):
        away = np.zeros_like(scores)
        away[at] = step
        gradient[at] = (loss(scores + away) - loss(scores - away)) / (2 * step)
    return loss(scores), gradient


def stepped(model, labels):
    """The loss, and the gradient that one step of SGD took."""
    phases = [Phase("d", "loss")]
    source = load_trainable(model.SerializeToString(), batch=N)
    made = iterate(step_model(network(source), phases, {}, warnings=[]), phases, Sgd(1.0))
    states = made.initial()
    losses, after = made.run([{"y": labels}], states)
    return float(losses["loss"]), states["d.w"] - after["d.w"]


@pytest.mark.parametrize("ignored", [None, -100, 1])
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("op", "rest"), [("SoftmaxCrossEntropyLoss", ()), ("SoftmaxCrossEntropyLoss", (2, 3)),
                                          ("NegativeLogLikelihoodLoss", ())])  # fmt: skip
def test_loss_and_gradient(op, rest, reduction, weights, ignored):
    labels = np.random.default_rng(1).integers(0, C, (N, *rest))
    labels.flat[0] = C - 1  # something always counts
    if ignored is not None:
        labels.flat[1] = ignored
    wide, scores = class_model(op, rest, reduction, weights, ignored, elem=np.float64)
    loss, gradient = numerical(wide, scores, labels)
    found, step = stepped(class_model(op, rest, reduction, weights, ignored)[0], labels)
    assert found == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(step, gradient, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("weights", [False, True])
def test_label_smoothing_stands_in_the_exporters_note(weights):
    """The dynamo exporter writes no other sign of it; PyTorch's definition in the docstring of CrossEntropyLoss."""
    call = "call_function[target=torch.ops.aten.cross_entropy_loss.default]"
    note = f"{call}(args = (%p_d_w, %y, None, 1, -100, 0.2), kwargs = {{}})"
    labels = np.array([0, 3, 2, 1, 0])
    model, scores = class_model("SoftmaxCrossEntropyLoss", (), "mean", weights, -100, note)
    w = WEIGHTS if weights else np.ones(C)
    logs = scores - np.log(np.exp(scores.astype(np.float64)).sum(1, keepdims=True))
    chosen = w[labels] * logs[np.arange(N), labels]
    expected = -(0.8 * chosen.sum() + 0.2 / C * (logs * w).sum()) / w[labels].sum()
    assert stepped(model, labels)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("axis", "shape"), [(1, (N, 1)), (1, (N, 2)), (0, (2, C)), (0, (3, C))])
def test_chosen_elements(axis, shape):
    """log_p.gather(axis, labels): its mean square, with labels counted from either end."""

    def model(elem):
        scores = np.random.default_rng(0).normal(size=(N, C)).astype(elem)
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(elem))
        nodes = [
            helper.make_node("LogSoftmax", ["d.w"], ["logs"], axis=1),
            helper.make_node("GatherElements", ["logs", "y"], ["chosen"], axis=axis),
            helper.make_node("Mul", ["chosen", "chosen"], ["squares"]),
            helper.make_node("ReduceMean", ["squares"], ["loss"], keepdims=0),
        ]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("y", TensorProto.INT64, shape)],
            [helper.make_tensor_value_info("loss", kind, [])],
            [numpy_helper.from_array(scores, "d.w")],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), scores

    extent = (N, C)[axis]
    labels = np.random.default_rng(1).integers(-extent, extent, shape)
    loss, gradient = numerical(*model(np.float64), labels)
    found, step = stepped(model(np.float32)[0], labels)
    assert found == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(step, gradient, rtol=1e-3, atol=2e-5)
