"""Handlers of ONNX nodes, one module a family; importing the package fills the table."""

from mgc.frontend.handlers import (  # noqa: F401 - each fills the table
    activations,
    arithmetic,
    convolution,
    indexing,
    losses,
    matrix,
    normalization,
    pooling,
    quantization,
    random,
    reductions,
    resizing,
    shapes,
)
from mgc.frontend.handlers.registry import HANDLERS

__all__ = ["HANDLERS"]
