"""One ONNX graph under construction, and the session that runs it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

OPSET = 21
_INLINE_BYTES = 1024
"""Initializers up to this size stand in the model; larger ones are handed to the session without a copy."""


def onnx_type(dtype: np.dtype) -> int:
    """ONNX's number of an element type."""
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


class NotLoweredError(Exception):
    """No graph form is known, or none that is proven equal: the reference meaning is run instead. Says why."""


class Session:
    """A compiled graph, with the arrays whose memory it reads."""

    def __init__(self, session: ort.InferenceSession, weights: tuple[ort.OrtValue, ...]) -> None:
        self._session = session
        self._weights = weights  # the session refers to their memory
        self.inputs = frozenset(i.name for i in session.get_inputs())

    def run(self, outputs: Sequence[str], feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The named outputs."""
        return [np.asarray(a) for a in self._session.run(list(outputs), dict(feeds))]


@dataclass
class GraphBuilder:
    """Nodes and initializers of one graph. Equal nodes and equal constants are made once."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: dict[str, np.dtype] = field(default_factory=dict)
    outputs: dict[str, np.dtype] = field(default_factory=dict)
    bytes_per_micro_batch: int = 0
    """Size of the largest intermediate that lowerings noted."""
    nanoseconds_per_micro_batch: float = 0.0
    """Estimated time of the matrix products and what goes with them."""
    finite: set[str] = field(default_factory=set)
    """Tensors that hold finite numbers only, if all guards hold."""
    spins: bool = True
    """Whether threads of its session wait for work in a loop: quick, but in the way of other sessions' threads."""
    optimized: bool = False
    """Whether ONNX Runtime may give nodes another form (Conv a blocked one), and with it float sums another order."""
    numbers: set[str] = field(default_factory=set)
    """Graph inputs without NaN."""
    guards: list[str] = field(default_factory=list)
    """Tensors [1] that are finite where what the graph computes can be relied on."""
    _known: dict[Any, list[str]] = field(default_factory=dict)
    _made: dict[str, onnx.NodeProto] = field(default_factory=dict)
    _names: int = 0
    _sessions: dict[int, Session] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, elements: int) -> None:
        """Notes an intermediate of so many 8-byte elements a micro-batch."""
        self.bytes_per_micro_batch = max(self.bytes_per_micro_batch, 8 * elements)

    def _name(self, stem: str) -> str:
        self._names += 1
        return f"{stem}_{self._names}"

    def input(self, name: str, dtype: np.dtype) -> str:
        """Declares a graph input of any shape."""
        self.inputs[name] = np.dtype(dtype)
        return name

    def output(self, tensor: str, name: str, dtype: np.dtype) -> str:
        """Declares a tensor as graph output `name`."""
        self.nodes.append(helper.make_node("Identity", [tensor], [name]))
        self.outputs[name] = np.dtype(dtype)
        return name

    def expose(self, tensor: str, dtype: np.dtype, name: str) -> str:
        """Declares a tensor as graph output and gives its name there: its own, or `name` where that cannot be, since
        no node makes it or it is an output already.
        """
        if tensor not in self._made or tensor in self.outputs:
            return self.output(tensor, name, dtype)
        self.outputs[tensor] = np.dtype(dtype)
        return tensor

    def factor(self, product: str, x: str) -> float | None:
        """The constant a for which `product` is the node x * a, both reshaped alike or not; None if it is not."""
        maker, other = self._made.get(product), self._made.get(x)
        while maker and other and maker.op_type == other.op_type == "Reshape" and maker.input[1] == other.input[1]:
            x = other.input[0]
            maker, other = self._made.get(maker.input[0]), self._made.get(x)
        if maker is None or maker.op_type != "Mul" or maker.input[0] != x:
            return None
        constant = self.constants.get(maker.input[1])
        return float(constant.reshape(())) if constant is not None and constant.size == 1 else None

    def is_number(self, tensor: str) -> bool:
        """Whether no element of a tensor is NaN for all that is known of graph inputs and guards."""
        while tensor not in self.numbers and tensor not in self.finite:
            maker = self._made.get(tensor)
            if maker is None or maker.op_type not in ("Reshape", "Transpose"):
                return False
            tensor = maker.input[0]
        return True

    def guard(self, tensor: str) -> None:
        """Adds the guard that all numbers of a tensor are finite: the sum of their magnitudes."""
        if tensor in self.finite:
            return
        maker = self._made.get(tensor)
        self.finite.add(tensor)
        if maker is not None and maker.op_type == "Abs":
            self.finite.add(maker.input[0])
            magnitudes = tensor
        else:
            magnitudes = self.node("Abs", tensor)
        flat = self.reshape(magnitudes, [-1])
        self.require(self.node("ReduceSum", flat, self.constant([0]), keepdims=1))

    def slice(self, x: str, start: int, stop: int, axis: int) -> str:
        """x[start:stop] along an axis."""
        return self.node("Slice", x, self.constant([start]), self.constant([stop]), self.constant([axis]))

    def concat(self, tensors: Sequence[str], axis: int) -> str:
        """Tensors side by side."""
        return tensors[0] if len(tensors) == 1 else self.node("Concat", *tensors, axis=axis)

    def positive_zero(self, x: str) -> str:
        """A float32 tensor with +0 where it is -0: kernels' maxima and minima pick either."""
        return self.node("Add", x, self.constant(np.float32(0)))

    def any_zero(self, x: str) -> str:
        """A tensor for uses that no zero's sign matters to: what `positive_zero` took, if it made x."""
        maker = self._made.get(x)
        if maker is None or maker.op_type != "Add" or maker.input[1] != self.constant(np.float32(0)):
            return x
        return maker.input[0]

    def require(self, guard: str) -> None:
        """Adds a tensor [1] as a guard: what the graph computes is used only if it is finite."""
        if guard not in self.guards:
            self.guards.append(guard)

    def close(self) -> str | None:
        """Declares all guards as one output, and names it; None if there are none."""
        if not self.guards:
            return None
        return self.output(self.node("Concat", *self.guards, axis=0), "guard", np.dtype(np.float32))

    def constant(self, value: np.ndarray | np.generic | Sequence[int]) -> str:
        """An initializer; a list is int64."""
        array = np.asarray(value, np.int64) if isinstance(value, (list, tuple)) else np.asarray(value)
        array = np.array(array, order="C", copy=None)
        key = ("constant", array.dtype.str, array.shape, array.tobytes()) if array.nbytes <= _INLINE_BYTES else None
        if key is not None and key in self._known:
            return self._known[key][0]
        name = self._name("c")
        self.constants[name] = array
        if key is not None:
            self._known[key] = [name]
        return name

    def nodes_of(self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """The results of a node."""
        key = (op, tuple(inputs), outputs, tuple(sorted((k, repr(v)) for k, v in attributes.items())))
        if key not in self._known:
            names = [self._name(op.lower()) for _ in range(outputs)]
            self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
            self._made |= dict.fromkeys(names, self.nodes[-1])
            self._known[key] = names
        return self._known[key]

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """The result of a node with one result."""
        return self.nodes_of(op, inputs, 1, **attributes)[0]

    def cast(self, x: str, dtype: np.dtype | type) -> str:
        """x in another element type."""
        return self.node("Cast", x, to=onnx_type(np.dtype(dtype)))

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """x under another shape, one dimension of which may be -1."""
        maker = self._made.get(x)
        source = maker.input[0] if maker is not None and maker.op_type == "Reshape" else x
        return self.node("Reshape", source, self.constant(list(shape)))

    def session(self, threads: int) -> Session:
        """The graph, which does not grow any more, compiled once for `threads` that work within a node.

        Graph optimisations stay off unless it is to be `optimized`: they may reassociate or fuse float arithmetic, and
        the plan has nothing to fold. Weights still are packed for their kernels.
        """
        with self._lock:
            if threads not in self._sessions:
                self._sessions[threads] = self._compile(threads)
            return self._sessions[threads]

    def _compile(self, threads: int) -> Session:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        if not self.optimized:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        if not self.spins:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model, external = self._model()
        weights = [ort.OrtValue.ortvalue_from_numpy(a) for a in external.values()]
        if external:
            options.add_external_initializers(list(external), weights)
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return Session(session, tuple(weights))

    def live_inputs(self) -> list[str]:
        """Graph inputs that the outputs depend on; the session takes no others."""
        _, used = self._live()
        return [n for n in self.inputs if n in used]

    def _live(self) -> tuple[list[onnx.NodeProto], set[str]]:
        """The nodes that the outputs depend on (an abandoned lowering leaves others), and all names they use."""
        used, nodes = set(self.outputs), []
        for node in reversed(self.nodes):
            if any(n in used for n in node.output):
                used.update(node.input)
                nodes.append(node)
        return nodes[::-1], used

    def _model(self) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
        nodes, used = self._live()
        constants = {n: a for n, a in self.constants.items() if n in used}
        external = {n: a for n, a in constants.items() if a.nbytes > _INLINE_BYTES}
        initializers = [
            _external(n, a) if n in external else onnx.numpy_helper.from_array(a, n) for n, a in constants.items()
        ]
        graph = helper.make_graph(
            nodes,
            "plan",
            [helper.make_tensor_value_info(n, onnx_type(d), None) for n, d in self.inputs.items() if n in used],
            [helper.make_tensor_value_info(n, onnx_type(d), None) for n, d in self.outputs.items()],
            initializers,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10), external


def _external(name: str, array: np.ndarray) -> TensorProto:
    """An initializer without data: the session gets it as an OrtValue under the same name."""
    proto = TensorProto(name=name, data_type=onnx_type(array.dtype), dims=array.shape)
    proto.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "memory"), ("offset", "0"), ("length", str(array.nbytes))):
        entry = proto.external_data.add()
        entry.key, entry.value = key, value
    return proto
