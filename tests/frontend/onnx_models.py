"""Small ONNX models, and the standing check of the importer: what it makes of a model computes the same."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array

from mgc.frontend import ImportedModel, export_graph, import_model, unaccounted
from mgc.ir.graph import evaluate
from mgc.ir.ops import Host
from mgc.ir.text import parse_graph, print_graph
from mgc.ir.verifier import verify

F = TensorProto.FLOAT
node = make_node


def build(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    outputs: Sequence[str] | Mapping[str, int] = ("y",),
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    elem: int = F,
    elems: Mapping[str, int] | None = None,
    domains: Mapping[str, int] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
) -> ModelProto:
    """A model: input shapes by name (float unless `elems` says otherwise), output names (with element types)."""
    kinds = dict(elems or {})
    graph = make_graph(
        list(nodes),
        "test",
        [make_tensor_value_info(n, kinds.get(n, elem), list(s)) for n, s in inputs.items()],
        [
            make_tensor_value_info(n, outputs[n] if isinstance(outputs, Mapping) else kinds.get(n, elem), None)
            for n in outputs
        ],
        [from_array(np.asarray(w), n) for n, w in (weights or {}).items()],
    )
    opsets = [make_opsetid("", opset), *(make_opsetid(d, v) for d, v in (domains or {}).items())]
    return make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))


def run_ort(model: ModelProto, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """All outputs in ONNX Runtime, by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [o.name for o in model.graph.output]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def imported(model: ModelProto, **options: Any) -> ImportedModel:
    """The import, with everything that must hold of any import checked."""
    before = model.SerializeToString(deterministic=True)
    result = import_model(model, **options)
    assert model.SerializeToString(deterministic=True) == before
    verify(result.graph)
    assert unaccounted(result) == set()
    text = print_graph(result.graph)
    assert print_graph(parse_graph(text)) == text
    return result


def ops(result: ImportedModel) -> list[str]:
    """Names of the ops in order."""
    return [n.op.name for n in result.graph.nodes]


def hosted(result: ImportedModel) -> list[str]:
    """ONNX op types that went to the host."""
    return [o for n in result.graph.nodes if isinstance(n.op, Host) for o in n.op.op_types]


def close(found: Any, expected: Any, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Equal in shape and element type, and nearly so in value; sequences entry by entry."""
    if isinstance(expected, list):
        assert isinstance(found, list)
        assert len(found) == len(expected)
        for f, e in zip(found, expected, strict=True):
            close(f, e, rtol, atol)
        return
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    if expected.dtype.kind in "OSU":
        assert found.astype(str).tolist() == expected.astype(str).tolist()
        return
    assert found.dtype == expected.dtype
    if expected.dtype.kind in "biu":
        assert np.array_equal(found, expected)
    else:
        wide = np.complex128 if expected.dtype.kind == "c" else np.float64
        np.testing.assert_allclose(found.astype(wide), expected.astype(wide), rtol=rtol, atol=atol, equal_nan=True)


def same(
    model: ModelProto,
    feeds: Mapping[str, Any],
    expected: Mapping[str, Any] | None = None,
    *,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    **options: Any,
) -> ImportedModel:
    """NumPy's run of the import and ONNX Runtime's of its export agree with ONNX Runtime (or with `expected`)."""
    result = imported(model, **options)
    expected = run_ort(model, feeds) if expected is None else expected
    computed = evaluate(result.graph, dict(feeds))
    exported = run_ort(export_graph(result.graph), feeds)
    assert [name for name, _ in result.graph.outputs] == [o.name for o in model.graph.output]
    for name, value in expected.items():
        close(computed[name], value, rtol, atol)
        close(exported[name], value, rtol, atol)
    return result


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Normal random numbers."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)
