"""What the handlers of ONNX nodes work with: a view of the node, and the graph being built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from onnx import NodeProto, TypeProto
from onnx.helper import get_attribute_value

from mgc.frontend.budget import Budget
from mgc.frontend.errors import ModelError, Unsupported
from mgc.frontend.operand import Known, Sym, ir_dtype, onnx_type
from mgc.functions.draws import KEY
from mgc.ir.graph import Graph, Value
from mgc.ir.op import Op
from mgc.ir.ops import Binary, Cast, Detach, Reduce, Reshape, Transpose, Unary
from mgc.ir.types import DType, OpaqueType, TensorType

Operand = Known | Sym
# What a handler gives for one output: an IR value (its ONNX element type follows from the operands), or an operand.
Result = Value | Operand | None
Handler = Callable[["Context", "NodeView"], "Result | Sequence[Result]"]

_REQUIRED = object()


@dataclass
class NodeView:
    """One ONNX node with its operands looked up."""

    proto: NodeProto
    domain: str  # "" for ONNX's own
    source: str  # the name of the node of the main graph that it belongs to
    opset: int  # version of its own domain
    inputs: list[Operand | None]
    outputs: list[str]  # names, "" where not wanted
    type_of: Callable[[Operand], TypeProto | None] = lambda operand: None
    _attributes: dict[str, Any] | None = None

    @property
    def op_type(self) -> str:
        """ONNX op type."""
        return self.proto.op_type

    @property
    def where(self) -> str:
        """The node as error messages name it."""
        return f"node {self.source!r} ({self.op_type})"

    @property
    def attributes(self) -> dict[str, Any]:
        """All attributes as Python values, strings decoded."""
        if self._attributes is None:
            self._attributes = {a.name: _python(get_attribute_value(a)) for a in self.proto.attribute}
        return self._attributes

    def attr(self, name: str, default: Any = _REQUIRED) -> Any:
        """One attribute; ModelError if it is absent and has no default."""
        value = self.attributes.get(name, default)
        if value is _REQUIRED:
            raise ModelError(f"attribute {name!r} is missing", where=self.where)
        return value

    def operand(self, index: int) -> Operand:
        """A required operand."""
        found = self.optional(index)
        if found is None:
            raise ModelError(f"input {index} is missing", where=self.where)
        return found

    def optional(self, index: int) -> Operand | None:
        """An operand that may be left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def wants(self, index: int) -> bool:
        """Whether output `index` is used."""
        return index < len(self.outputs) and bool(self.outputs[index])


def _python(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return [v.decode(errors="replace") for v in value]
    return value


@dataclass
class Context:
    """The graph being built, and what handlers do to it."""

    graph: Graph
    keep_parameters: bool = False
    budget: Budget = field(default_factory=Budget)
    producer: str = ""  # what wrote the model, in lower case
    stopped: frozenset[str] = frozenset()  # values whose gradient ends there
    warnings: list[str] = field(default_factory=list)
    source: str = ""  # stamped on every op that is added
    hint: str = ""  # name for the next values
    samples: int = 1  # what axis 0 of the key of random numbers counts
    random_ops: int = 0  # so far
    _constants: dict[tuple[int, tuple[int, ...], DType], Value] = field(default_factory=dict)
    _casts: dict[tuple[Value, DType], Value] = field(default_factory=dict)
    _alive: list[Known] = field(default_factory=list)  # keeps ids in `_constants` from being reused

    # -- operands to values ----------------------------------------------------------------------------------------

    def value(self, operand: Operand | Value | None) -> Value:
        """The operand as an IR value for the chip: floats of any width become f32."""
        if isinstance(operand, Value):
            return operand
        if operand is None:
            raise Unsupported("an input is missing")
        if isinstance(operand, Known):
            return self._constant(operand, None)
        if isinstance(operand.value.type, OpaqueType):
            raise Unsupported(f"%{operand.value.name} has no static shape")
        dtype = operand.value.tensor.dtype
        return self.cast(operand.value, DType.F32) if dtype.is_float else operand.value

    def exact_value(self, sym: Sym) -> Value:
        """The value in its ONNX element type, as the host and the graph's outputs want it."""
        if isinstance(sym.value.type, OpaqueType):
            return sym.value
        dtype = ir_dtype(sym.type.tensor_type.elem_type)
        return sym.value if dtype is None else self.cast(sym.value, dtype)

    def cast(self, value: Value, to: DType) -> Value:
        """The value in another element type; one cast for each value and type."""
        if value.tensor.dtype is to:
            return value
        key = (value, to)
        if key not in self._casts:
            # not stamped with a source: the cast is nobody's node
            self._casts[key] = self.graph.add(Cast(to), value, name=f"{value.name}.{to.value}")
        return self._casts[key]

    def forget(self, dead: set[Value]) -> None:
        """Forgets casts to or from values that were taken back."""
        self._casts = {k: v for k, v in self._casts.items() if k[0] not in dead and v not in dead}

    def known(self, operand: Operand | None, what: str) -> np.ndarray:
        """The data of an operand that must be known at import; Unsupported (the host does it) otherwise."""
        if not isinstance(operand, Known):
            raise Unsupported(f"{what} is known only at run time")
        return np.asarray(operand.array)

    def ints(self, operand: Operand | None, what: str) -> list[int] | None:
        """A list of ints from a known operand; None if the operand is absent."""
        if operand is None:
            return None
        data = self.known(operand, what)
        if data.dtype.kind not in "iu" and data.size:
            where = f"node {self.source!r}" if self.source else ""
            raise ModelError(f"{what} is {data.dtype.name}: whole numbers are meant", where=where)
        return [int(v) for v in data.reshape(-1)]

    # -- constants -------------------------------------------------------------------------------------------------

    def _constant(self, known: Known, shape: tuple[int, ...] | None) -> Value:
        data = known.array
        if not known.is_tensor:
            raise Unsupported("a constant has an element type that the chip does not have")
        if DType.of(data.dtype).is_float:
            with np.errstate(over="ignore"):
                data = data.astype(np.float32, copy=False)
        if shape is not None:
            data = data.reshape(shape)
        key = (id(known), data.shape, DType.of(data.dtype))
        if key not in self._constants:
            self._alive.append(known)
            hint = known.name or known.hint or f"{self.hint}.c"
            self._constants[key] = self.graph.add_constant(data, hint, onnx_name=known.name)
        return self._constants[key]

    def const(self, data: Any, dtype: DType = DType.F32) -> Value:
        """A computed constant."""
        return self.graph.add_constant(np.asarray(data, dtype.numpy), f"{self.hint}.c")

    def room(self, *dims: int) -> None:
        """Unsupported if a table of these dimensions is larger than any real model needs; ask before making it."""
        if min(dims) < 0 or prod(dims) > self.budget.constant:
            raise Unsupported(f"it takes a table of {' x '.join(map(str, dims))} elements")

    def like(self, number: float, value: Value) -> Value:
        """A scalar constant of the element type of `value`."""
        return self.const(number, value.tensor.dtype)

    def random_key(self) -> Value:
        """The input with each sample's seed and number, which there is once something draws."""
        found = next((v for v in self.graph.inputs if v.name == KEY), None)
        return found or self.graph.add_input(KEY, TensorType(DType.I64, (self.samples, 2)))

    # -- building --------------------------------------------------------------------------------------------------

    def emit(self, op: Op, *values: Value) -> Value:
        """Adds an op with one result, stamped with the present source."""
        return self.graph.add(op, *values, name=self.hint, sources=(self.source,) if self.source else ())

    def unary(self, fn: str, x: Value, alpha: float = 0.0, beta: float = 0.0) -> Value:
        """fn(x)."""
        return self.emit(Unary(fn, float(alpha), float(beta)), x)

    def binary(self, fn: str, a: Value, b: Value | float) -> Value:
        """fn(a, b); a plain number becomes a scalar constant of a's element type."""
        return self.emit(Binary(fn), a, b if isinstance(b, Value) else self.like(b, a))

    def reduce(self, fn: str, x: Value, axes: Sequence[int], keepdims: bool = True) -> Value:
        """Reduction over `axes` (negative ones count from the end)."""
        rank = x.tensor.rank
        return self.emit(Reduce(fn, tuple(sorted({a % rank for a in axes})), keepdims), x)

    def reshape(self, operand: Operand | Value, shape: Sequence[int]) -> Value:
        """The operand with another shape; a constant is reshaped at once, no change of shape adds nothing."""
        shape = tuple(int(d) for d in shape)
        if isinstance(operand, Known) and operand.array.size == int(np.prod(shape, dtype=np.int64)):
            return self._constant(operand, shape)
        value = self.value(operand)
        return value if value.shape == shape else self.emit(Reshape(shape), value)

    def transpose(self, operand: Operand | Value, perm: Sequence[int]) -> Value:
        """The operand with its axes permuted; a constant at once, unless it is a parameter to be kept."""
        perm = tuple(int(p) for p in perm)
        if isinstance(operand, Known) and not (self.keep_parameters and operand.is_parameter):
            turned = np.ascontiguousarray(operand.array.transpose(perm))
            return self._constant(Known(turned, hint=operand.name and f"{operand.name}.T"), None)
        value = self.value(operand)
        return value if perm == tuple(range(len(perm))) else self.emit(Transpose(perm), value)

    def detached(self, operand: Operand) -> Operand:
        """The operand as a constant of differentiation; what no training changes is one already."""
        if not self.keep_parameters or (isinstance(operand, Known) and not operand.is_parameter):
            return operand
        kind = onnx_type(self.value(operand).tensor) if isinstance(operand, Known) else operand.type
        return Sym(self.emit(Detach(), self.value(operand)), kind)

    # -- results ---------------------------------------------------------------------------------------------------

    def result(self, value: Value, view: NodeView) -> Sym:
        """An IR value as an operand: a float result has the ONNX type of the node's first float operand."""
        if not isinstance(value.type, TensorType):
            raise TypeError("a handler gives tensors; host nodes make their operands themselves")
        proto = onnx_type(value.type)
        if value.type.dtype is DType.F32:
            for operand in view.inputs:
                kind = None if operand is None else view.type_of(operand)
                elem = kind.tensor_type.elem_type if kind is not None and kind.HasField("tensor_type") else 0
                dtype = ir_dtype(elem)
                if dtype is not None and dtype.is_float:
                    proto.tensor_type.elem_type = elem
                    break
        return Sym(value, proto)

    def typed(self, value: Value, elem_type: int) -> Sym:
        """An IR value as an operand of a given ONNX float type."""
        proto = onnx_type(value.tensor)
        proto.tensor_type.elem_type = elem_type
        return Sym(value, proto)

    def shape_of(self, operand: Operand) -> tuple[int, ...]:
        """Static shape of an operand; Unsupported if it has none."""
        if isinstance(operand, Known):
            return tuple(np.shape(operand.array))
        if isinstance(operand.value.type, OpaqueType):
            raise Unsupported(f"%{operand.value.name} has no static shape")
        return operand.value.shape

    def dtype_of(self, operand: Operand) -> DType:
        """Element type that the operand has on the chip."""
        if isinstance(operand, Known):
            if not operand.is_tensor:
                raise Unsupported("a constant has an element type that the chip does not have")
            dtype = DType.of(operand.array.dtype)
        else:
            dtype = operand.value.tensor.dtype
        return DType.F32 if dtype.is_float else dtype
