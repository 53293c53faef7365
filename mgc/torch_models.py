"""Models that PyTorch holds, as ONNX. PyTorch is imported only where a user hands such a model in."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mgc.passes.state import UnsupportedError

if TYPE_CHECKING:
    from mgc.frontend.load import Source


def as_source(model: Any, example: Any = None, *, trains: bool = False) -> Source:
    """A model as the importer takes it: `torch.nn.Module` with `example`, its inputs (a tensor, or several in order;
    axis 0 of each is its batch), is exported; of what `torch.onnx.export` returned the ONNX model is taken; anything
    else is given back. UnsupportedError for a module without examples, or that the exporter cannot export.
    """
    proto = getattr(model, "model_proto", None)
    if proto is not None and type(model).__name__ == "ONNXProgram":
        return proto
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        if example is not None:
            raise UnsupportedError("example is for a torch.nn.Module: an ONNX model says itself what its inputs are")
        return model
    if example is None:
        name = type(model).__name__
        raise UnsupportedError(f"{name} is a PyTorch module: give example inputs, as mgc.compile({name.lower()}, z)")
    several = isinstance(example, Sequence) and not isinstance(example, torch.Tensor)
    inputs = tuple(example) if several else (example,)
    return _exported(torch, model, inputs, trains)


def _exported(torch: Any, module: Any, inputs: tuple[Any, ...], trains: bool) -> bytes:
    names = [f"input_{k}" for k in range(len(inputs))] if len(inputs) > 1 else ["input"]
    file = io.BytesIO()
    mode = torch.onnx.TrainingMode
    try:
        torch.onnx.export(
            module,
            inputs,
            file,
            input_names=names,
            dynamic_axes={name: {0: "batch"} for name, x in zip(names, inputs, strict=True) if x.dim()},
            training=mode.TRAINING if trains else mode.EVAL,
            do_constant_folding=not trains,
            dynamo=False,
        )
    except Exception as error:  # whatever the exporter and the module's own code raise
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UnsupportedError(
            f"{type(module).__name__}: torch.onnx.export fails ({said}); export it yourself, and hand in the file"
        ) from error
    return file.getvalue()
