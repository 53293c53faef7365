"""Forms that ops had in older opsets (attributes for axes, pads, shapes; other defaults), against plain NumPy."""

import numpy as np
import pytest
from onnx import TensorProto
from onnx_models import build, close, floats, hosted, imported, node

from mgc.frontend import ModelError, import_model
from mgc.ir.graph import evaluate

X = floats(2, 3, 4, 5)


def run(nodes, weights=None, opset=6, x=X, outputs=("y",), **more):
    model = build(nodes if isinstance(nodes, list) else [nodes], {"x": x.shape}, outputs, weights, opset=opset, **more)
    result = imported(model)
    assert hosted(result) == []
    found = evaluate(result.graph, {"x": x})
    return found["y"] if len(outputs) == 1 else found


def softmax(x, axes):
    p = np.exp(x - x.max(axes, keepdims=True))
    return p / p.sum(axes, keepdims=True)


B3 = floats(3, seed=1)
CASES = {
    "add with axis": (node("Add", ["x", "b"], ["y"], broadcast=1, axis=1), {"b": B3}, 6, X + B3[:, None, None]),
    "mul trailing": (node("Mul", ["x", "b"], ["y"], broadcast=1), {"b": floats(5)}, 6, X * floats(5)),
    "sub of two axes": (
        node("Sub", ["x", "b"], ["y"], broadcast=1, axis=1),
        {"b": floats(3, 4)},
        1,
        X - floats(3, 4)[:, :, None],
    ),
    "reshape by attribute": (node("Reshape", ["x"], ["y"], shape=[0, -1]), {}, 1, X.reshape(2, 60)),
    "clip by attributes": (node("Clip", ["x"], ["y"], min=-0.5, max=0.3), {}, 6, np.clip(X, -0.5, 0.3)),
    "clip one side": (node("Clip", ["x"], ["y"], max=0.3), {}, 6, np.minimum(X, 0.3)),
    "clip at zero": (node("Clip", ["x", "", "six"], ["y"]), {"six": np.float32(0.6)}, 11, np.minimum(X, 0.6)),
    "pad by attribute": (
        node("Pad", ["x"], ["y"], pads=[0, 0, 1, 2, 0, 0, 0, 1], value=2.0),
        {},
        2,
        np.pad(X, [(0, 0), (0, 0), (1, 0), (2, 1)], constant_values=2),
    ),
    "pad of opset 1": (
        node("Pad", ["x"], ["y"], paddings=[0, 0, 1, 2, 0, 0, 0, 1], mode="reflect"),
        {},
        1,
        np.pad(X, [(0, 0), (0, 0), (1, 0), (2, 1)], "reflect"),
    ),
    "pad with negative amounts": (
        node("Pad", ["x"], ["y"], pads=[0, 0, -1, 2, 0, 0, 1, -1]),
        {},
        2,
        np.pad(X[:, :, 1:, :-1], [(0, 0), (0, 0), (0, 1), (2, 0)]),
    ),
    "slice by attributes": (
        node("Slice", ["x"], ["y"], starts=[1, -2], ends=[9, -1], axes=[2, 3]),
        {},
        1,
        X[:, :, 1:, 3:4],
    ),
    "slice without axes": (node("Slice", ["x"], ["y"], starts=[0, 1], ends=[1, 3]), {}, 1, X[:1, 1:3]),
    "squeeze by attribute": (
        [node("Unsqueeze", ["x"], ["u"], axes=[0, 3]), node("Squeeze", ["u"], ["y"], axes=[0])],
        {},
        6,
        X[:, :, None],
    ),
    "split by attribute": (node("Split", ["x"], ["y", "z"], axis=1, split=[1, 2]), {}, 2, X[:, :1]),
    "concat default axis": (node("Concat", ["x", "x"], ["y"]), {}, 1, np.concatenate([X, X], 1)),
    "reduce by attribute": (node("ReduceMean", ["x"], ["y"], axes=[1, -1], keepdims=0), {}, 11, X.mean((1, 3))),
    "softmax over the rest": (node("Softmax", ["x"], ["y"], axis=2), {}, 11, softmax(X, (2, 3))),
    "softmax default axis": (node("Softmax", ["x"], ["y"]), {}, 11, softmax(X, (1, 2, 3))),
    "softmax since 13": (node("Softmax", ["x"], ["y"]), {}, 13, softmax(X, (3,))),
    "log softmax": (node("LogSoftmax", ["x"], ["y"], axis=1), {}, 13, np.log(softmax(X, (1,)))),
    "dropout": (node("Dropout", ["x"], ["y"], is_test=1), {}, 1, X),
    "selu of opset 1": (
        node("Selu", ["x"], ["y"]),
        {},
        1,
        1.0507 * np.where(X > 0, X, 1.6732 * (np.exp(np.minimum(X, 0)) - 1)),
    ),
    "prelu one slope a channel": (
        node("PRelu", ["x", "b"], ["y"]),
        {"b": np.abs(B3)},
        6,
        np.where(X < 0, X * np.abs(B3)[:, None, None], X),
    ),
    "tile of opset 1": (
        node("Tile", ["x", "n", "axis"], ["y"]),
        {"n": np.array(2), "axis": np.array(1)},
        1,
        np.tile(X, (1, 2, 1, 1)),
    ),
    "tile": (node("Tile", ["x", "n"], ["y"]), {"n": np.array([2, 1, 3, 1])}, 13, np.tile(X, (2, 1, 3, 1))),
    "tile to nothing": (node("Tile", ["x", "n"], ["y"]), {"n": np.array([2, 0, 3, 1])}, 13, np.tile(X, (2, 0, 3, 1))),
    "flatten from the end": (node("Flatten", ["x"], ["y"], axis=-1), {}, 11, X.reshape(24, 5)),
    "upsample 7": (node("Upsample", ["x"], ["y"], scales=[1.0, 1.0, 2.0, 2.0]), {}, 7, X.repeat(2, 2).repeat(2, 3)),
    "upsample 9": (
        node("Upsample", ["x", "s"], ["y"], mode="nearest"),
        {"s": np.array([1, 1, 1, 3], np.float32)},
        9,
        X.repeat(3, 3),
    ),
    "upsample 1": (
        node("Upsample", ["x"], ["y"], height_scale=2.0, width_scale=1.0, mode="nearest"),
        {},
        1,
        X.repeat(2, 2),
    ),
    "resize 10": (node("Resize", ["x", "s"], ["y"]), {"s": np.array([1, 1, 0.5, 1], np.float32)}, 10, X[:, :, ::2]),
    "batch norm 7": (
        node("BatchNormalization", ["x", "b", "b", "b", "v"], ["y"], epsilon=1e-3),
        {"b": B3, "v": np.abs(B3)},
        7,
        (X - B3[:, None, None]) / np.sqrt(np.abs(B3) + 1e-3)[:, None, None] * B3[:, None, None] + B3[:, None, None],
    ),
    "mean of three": (node("Mean", ["x", "x", "b"], ["y"]), {"b": floats(5)}, 13, (2 * X + floats(5)) / 3),
    "one-hot": (
        [node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("OneHot", ["i", "d", "v"], ["y"], axis=1)],
        {"d": np.array(3), "v": np.array([-1, 2], np.float32)},
        11,
        np.where(X.astype(int)[:, None] % 3 == np.arange(3)[:, None, None, None], 2, -1).astype(np.float32),
    ),
    "lower triangle": (node("Trilu", ["x"], ["y"], upper=0), {}, 14, np.tril(X)),
    "running sums": (
        node("CumSum", ["x", "a"], ["y"], reverse=1, exclusive=1),
        {"a": np.array(-1)},
        14,
        np.cumsum(X[..., ::-1], -1)[..., ::-1] - X,
    ),
}


@pytest.mark.parametrize(("nodes", "weights", "opset", "expected"), CASES.values(), ids=CASES)
def test_form(nodes, weights, opset, expected):
    x = np.clip(X, 0, None) if "zero" in str(expected) else X
    if isinstance(nodes, list) or nodes.op_type != "Clip" or opset < 11:
        close(run(nodes, weights, opset), expected.astype(np.float32))
    else:
        close(run(nodes, weights, opset, x=x), expected.astype(np.float32))


def test_clip_at_zero_is_a_relu():
    model = build(
        [node("Clip", ["x", "zero", "six"], ["y"])], {"x": [3]}, weights={"zero": np.float32(0), "six": np.float32(6)}
    )
    result = imported(model)
    assert [n.op.fn for n in result.graph.nodes] == ["relu", "min"]


def test_gemm_that_broadcasts_by_attribute():
    x = floats(2, 3)
    node_ = node("Gemm", ["x", "b", "c"], ["y"], broadcast=1, transB=1, alpha=2.0)
    close(run(node_, {"b": floats(4, 3), "c": floats(4)}, 6, x=x), 2 * x @ floats(4, 3).T + floats(4))


def test_batch_norm_in_training_mode():
    names = ["y", "mean", "var"]
    weights = {"s": floats(3, seed=1), "b": floats(3, seed=2), "m": floats(3, seed=3), "v": np.abs(floats(3, seed=4))}
    n = node("BatchNormalization", ["x", "s", "b", "m", "v"], names, training_mode=1, momentum=0.8)
    found = run(n, weights, 15, outputs=names)
    mean, var = X.mean((0, 2, 3)), X.var((0, 2, 3))
    shape = (3, 1, 1)
    expected = (X - mean.reshape(shape)) / np.sqrt(var + 1e-5).reshape(shape) * weights["s"].reshape(shape)
    close(found["y"], expected + weights["b"].reshape(shape))
    close(found["mean"], weights["m"] * 0.8 + mean * np.float32(0.2))
    close(found["var"], weights["v"] * 0.8 + var * np.float32(0.2))


BAD = [
    (node("Concat", ["x", "x"], ["y"], axis=7), 13, "axis 7 of rank 4"),
    (node("Concat", ["x", "x"], ["y"]), 13, "attribute 'axis' is missing"),
    (node("Reshape", ["x"], ["y"], shape=[7, -1]), 1, r"shape \[2, 3, 4, 5\] cannot become \[7, -1\]"),
    (node("Squeeze", ["x"], ["y"], axes=[1]), 6, r"axes \[1\] of shape \[2, 3, 4, 5\] are not all 1"),
    (node("Split", ["x"], ["y"], split=[1, 9]), 2, r"split \[1, 9\] of axis 0"),
    (node("Pad", ["x"], ["y"], pads=[1, 1]), 2, "2 pads for 4 axes"),
    (node("DepthToSpace", ["x"], ["y"], blocksize=2), 13, "blocksize 2 does not divide the channels"),
    (node("Transpose", ["x"], ["y"], perm=[0, 0, 1, 2]), 13, r"perm \(0, 0, 1, 2\) is no permutation"),
    (node("Upsample", ["x"], ["y"], scales=[1.0, 2.0]), 7, "2 scales for X"),
    (node("MaxPool", ["x"], ["y"], kernel_shape=[9, 9]), 12, "kernel .* does not fit into x"),
    (node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], auto_pad="SAME"), 12, "auto_pad 'SAME' is not one of ONNX's"),
    (node("Softmax", ["x"], ["y"], axis="one"), 13, "malformed node"),
]


@pytest.mark.parametrize(("bad", "opset", "message"), BAD, ids=lambda v: getattr(v, "op_type", None))
def test_bad_attributes_are_clear_errors(bad, opset, message):
    bad.name = "culprit"
    with pytest.raises(ModelError, match=rf"node 'culprit' \({bad.op_type}\): .*{message}"):
        import_model(build([bad], {"x": X.shape}, opset=opset))
