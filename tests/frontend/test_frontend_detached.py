"""Detached values that the dynamo exporter's optimiser left out come back from the notes on the nodes."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from mgc.frontend.detached import restore_detached
from mgc.frontend.errors import ModelError
from mgc.frontend.modules import is_detach
from mgc.frontend.training_model import load_trainable
from mgc.ir.ops import Detach


def noted(op, inputs, output, call, arguments, **attributes):
    """A node with the note of the call that it was traced from."""
    made = helper.make_node(op, inputs.split(), output.split(), name=f"node_{output}", **attributes)
    text = (
        f"%{call} : [num_users=1] = call_function[target=torch.ops.aten.x.default](args = ({arguments}), kwargs = {{}})"
    )
    made.metadata_props.add(key="pkg.torch.onnx.fx_node", value=text)
    return made


def step(nodes):
    rng = np.random.default_rng(0)
    weights = {n: rng.standard_normal(s).astype(np.float32) for n, s in (("g.w", (3, 4)), ("d.w", (4, 1)))}
    tensors = [numpy_helper.from_array(a, n) for n, a in weights.items()]
    infos = [helper.make_tensor_value_info(n, 1, s) for n, s in (("z", [2, 3]), ("x", [2, 4]))]
    outputs = [helper.make_tensor_value_info(n, 1, []) for n in ("loss_d", "loss_g")]
    graph = helper.make_graph(nodes, "step", infos, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


FAKE = [noted("MatMul", "z g.w", "mm", "mm", "%z, %p_g_w"), noted("Tanh", "mm", "gen_imgs", "tanh", "%mm")]
SCORES = noted("MatMul", "gen_imgs d.w", "mm_1", "mm_1", "%detach, %p_d_w")
LOSS_D = noted("ReduceMean", "mm_1", "loss_d", "mean", "%mm_1", keepdims=0)

MEAN = noted("ReduceMean", "neg", "loss_g", "mean_1", "%neg", keepdims=0)


def inputs_of(model, output):
    return list(next(n.input for n in model.graph.node if output in n.output))


def above(model, output):
    """The names that a value is computed from, and whether a detach is among its nodes."""
    found, cut = {output}, False
    for node in reversed(model.graph.node):
        if found & set(node.output):
            found |= set(node.input)
            cut |= is_detach(node)
    return found, cut


def test_a_detached_operand_is_put_back():
    apart = noted("Sub", "mm_1 gen_imgs", "sub", "sub", "%mm_1, %detach_1")
    loss_g = noted("ReduceMean", "sub", "loss_g", "mean_1", "%sub", keepdims=0)
    scores = noted("MatMul", "gen_imgs d.w", "mm_1", "mm_1", "%tanh, %p_d_w")
    model = step([*FAKE, scores, LOSS_D, apart, loss_g])
    restore_detached(model.graph)
    onnx.checker.check_model(model)
    assert inputs_of(model, "sub") == ["mm_1", "detach_1"]
    assert inputs_of(model, "detach_1") == ["gen_imgs"]
    assert inputs_of(model, "mm_1") == ["gen_imgs", "d.w"]
    assert not above(model, "loss_d")[1]


def test_a_value_beside_itself_detached():
    """mse(gen, gen.detach()): one name for both operands in the file, two in the call."""
    off = [
        noted("Sub", "gen_imgs gen_imgs", "off", "mse_loss", "%tanh, %detach"),
        noted("Mul", "off off", "square", "mse_loss", "%tanh, %detach"),
        noted("ReduceMean", "square", "loss_g", "mse_loss", "%tanh, %detach", keepdims=0),
    ]
    scores = noted("MatMul", "gen_imgs d.w", "mm_1", "mm_1", "%tanh, %p_d_w")
    model = step([*FAKE, scores, LOSS_D, *off])
    restore_detached(model.graph)
    assert inputs_of(model, "off") == ["gen_imgs", "detach"]


def test_what_was_made_one_of_a_value_and_the_detached_one_is_taken_apart():
    """The discriminator's scores of the detached samples serve both losses in the file; in the script they do not."""
    loss_g = [
        noted("Neg", "mm_1", "neg", "neg", "%mm_2"),
        noted("ReduceMean", "neg", "loss_g", "mean_1", "%neg", keepdims=0),
    ]
    model = step([*FAKE, SCORES, LOSS_D, *loss_g])
    names = {n.name for n in model.graph.node}
    restore_detached(model.graph)
    onnx.checker.check_model(model)
    assert above(model, "loss_d")[1]
    found, cut = above(model, "loss_g")
    assert not cut
    assert {"g.w", "d.w", "gen_imgs"} <= found
    loaded = load_trainable(step([*FAKE, SCORES, LOSS_D, *loss_g]))
    assert {s for n in loaded.imported.graph.nodes for s in n.sources} <= names
    assert set(loaded.imported.graph.absorbed) <= names
    assert sum(isinstance(n.op, Detach) for n in loaded.imported.graph.nodes) == 1


def test_a_network_that_is_applied_again_for_itself_is_no_twin():
    """Where a call lists another name because a change of shape is gone, it still reads the detached value."""
    loss_g = [
        noted("Neg", "mm_1", "neg", "neg", "%view"),
        noted("ReduceMean", "neg", "loss_g", "mean_1", "%neg", keepdims=0),
    ]
    model = step([*FAKE, SCORES, LOSS_D, *loss_g])
    restore_detached(model.graph)
    assert above(model, "loss_g")[1]


def test_what_cannot_be_told_is_refused():
    odd = noted("Sum", "gen_imgs mm x", "sum", "sum_1", "%detach, %relu")
    loss_g = noted("ReduceMean", "sum", "loss_g", "mean_1", "%sum_1", keepdims=0)
    model = step([*FAKE, SCORES, LOSS_D, odd, loss_g])
    with pytest.raises(ModelError, match=r"reads a detached value \(%detach\).*optimize=False"):
        load_trainable(model)


def test_a_detach_that_is_there_is_left_alone():
    there = helper.make_node("Identity", ["gen_imgs"], ["detach"], name="detach")
    there.metadata_props.add(key="namespace", value=": Step/detach: aten.detach.default")
    scores = noted("MatMul", "detach d.w", "mm_1", "mm_1", "%detach, %p_d_w")
    loss_g = noted("ReduceMean", "gen_imgs", "loss_g", "mean_1", "%tanh", keepdims=0)
    model = step([*FAKE, there, scores, LOSS_D, loss_g])
    before = model.SerializeToString()
    restore_detached(model.graph)
    assert model.SerializeToString() == before
