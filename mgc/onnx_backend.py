"""mgc as an ONNX backend (`onnx.backend.base.Backend`), in `float` numerics.

ONNX's own test cases pass weights as graph inputs. A crossbar's weights are written before it computes, so the
backend specialises: on `run`, every input that is a parameter of its node (weights, shapes, axes, scales) is fixed to
the value it has, the model is compiled with it, and the program runs on the inputs left. Programs are kept for the
parameter values seen last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.base import Backend, BackendRep

import mgc
from mgc.frontend.dims import dimension_names
from mgc.frontend.onnx_graph import keep
from mgc.isa.program import Program

# From which operand on an op's inputs are parameters; every other op's operands are data, or are integers that the
# importer wants to know (shapes, axes, sizes), see `parameters_of`.
_FIRST_PARAMETER = {
    "BatchNormalization": 1,
    "CausalConvWithState": 1,
    "Conv": 1,
    "ConvInteger": 1,
    "ConvTranspose": 1,
    "Gemm": 1,
    "GroupNormalization": 1,
    "InstanceNormalization": 1,
    "LayerNormalization": 1,
    "MatMul": 1,
    "PRelu": 1,
}
_SHAPE_OPERANDS = {
    "AffineGrid": (1,),
    "CenterCropPad": (1,),
    "Clip": (1, 2),
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "Dropout": (1, 2),
    "Expand": (1,),
    "OneHot": (1, 2),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}


def parameters_of(model: onnx.ModelProto) -> list[str]:
    """Graph inputs that only ever are parameters of their nodes; a model keeps at least one input if it has any."""
    parameter: dict[str, bool] = {}
    for node in model.graph.node:
        first = _FIRST_PARAMETER.get(node.op_type, len(node.input))
        shapes = _SHAPE_OPERANDS.get(node.op_type, ())
        if node.op_type.startswith("Reduce"):
            shapes = (1,)
        for k, name in enumerate(node.input):
            parameter[name] = parameter.get(name, True) and (k >= first or k in shapes)
    return [i.name for i in model.graph.input if parameter.get(i.name, False)]


def _sizes(model: onnx.ModelProto, data: Mapping[str, Any]) -> dict[str, int]:
    """Sizes of the dynamic dimensions of the inputs, from their values."""
    sizes: dict[str, int] = {}
    for info in model.graph.input:
        value = data.get(info.name)
        names = dimension_names(info)
        if isinstance(value, np.ndarray) and names is not None and len(names) == value.ndim:
            sizes |= {name: size for name, size in zip(names, value.shape, strict=True) if isinstance(name, str)}
    return sizes


def with_fixed_inputs(model: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """A copy of a model with some inputs as initializers of these values."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    keep(copy.graph.input, lambda i: i.name not in values)
    copy.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in values.items())
    return copy


class MgcRep(BackendRep):
    """A prepared model: `run` it, or look at the compiled `program`."""

    def __init__(self, model: onnx.ModelProto, target: str):
        self._model = model
        self._target = target
        self._parameters = parameters_of(model)
        initialized = {i.name for i in model.graph.initializer}
        self._inputs = [i.name for i in model.graph.input if i.name not in initialized]
        self._programs: dict[str, Program] = {}
        self._last: Program | None = None

    @property
    def program(self) -> Program:
        """The program of the last run; before any run, the model compiled with nothing specialised."""
        if self._last is None:
            self._last = self._compile(self._model)
        return self._last

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Runs the model on inputs in the order of its graph inputs (or a dict by name); outputs in ONNX's order."""
        feeds = dict(inputs) if isinstance(inputs, dict) else dict(zip(self._inputs, inputs, strict=False))
        fixed = {n: np.asarray(feeds[n]) for n in self._parameters if n in feeds and isinstance(feeds[n], np.ndarray)}
        data = {n: v for n, v in feeds.items() if n not in fixed}
        self._last = self._specialise(fixed, data)
        results = mgc.Simulator(self._last, engine="reference", numerics="float").run(data)
        return tuple(results[o.name] for o in self._model.graph.output)

    def _compile(self, model: onnx.ModelProto, dims: Mapping[str, int] | None = None) -> Program:
        return mgc.compile(model, target=self._target, calibrate="none", dims=dims)

    def _specialise(self, fixed: dict[str, np.ndarray], data: dict[str, Any]) -> Program:
        digest = hashlib.sha256()
        for name, value in sorted(fixed.items()):
            digest.update(f"{name}:{value.dtype}:{value.shape};".encode())
            digest.update(value.tobytes())
        for name, value in sorted(data.items()):
            digest.update(f"{name}:{getattr(value, 'shape', type(value))};".encode())
        key = digest.hexdigest()
        if key not in self._programs:
            model = with_fixed_inputs(self._model, fixed)
            self._programs = {key: self._compile(model, _sizes(model, data))}
        return self._programs[key]


class MgcBackend(Backend):
    """Compiles to the target `target` (default liu2018) and runs on the reference engine."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> MgcRep:
        """A MgcRep. Errors of the model surface here or, where they depend on input values, at `run`."""
        if not cls.supports_device(device):
            raise ValueError(f"mgc runs on the CPU's simulator only, not on {device!r}")
        return MgcRep(model, kwargs.get("target", "liu2018"))

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> tuple[Any, ...]:
        """Prepares and runs at once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls, node: onnx.NodeProto, inputs: Any, device: str = "CPU", outputs_info: Any = None, **kwargs: Any
    ) -> tuple[Any, ...]:
        """Runs one node; its inputs' types come from the arrays."""
        names = [n for n in node.input if n]
        infos = [
            onnx.helper.make_tensor_value_info(
                n, onnx.helper.np_dtype_to_tensor_dtype(np.asarray(v).dtype), np.shape(v)
            )
            for n, v in zip(names, inputs, strict=True)
        ]
        outputs = [onnx.ValueInfoProto(name=n) for n in node.output if n]
        model = onnx.helper.make_model(onnx.helper.make_graph([node], node.op_type, infos, outputs))
        return cls.run_model(onnx.shape_inference.infer_shapes(model), inputs, device, **kwargs)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Only the CPU."""
        return device.split(":")[0] == "CPU"


prepare = MgcBackend.prepare
run_node = MgcBackend.run_node
run_model = MgcBackend.run_model
supports_device = MgcBackend.supports_device
is_compatible = MgcBackend.is_compatible
