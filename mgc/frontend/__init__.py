"""ONNX -> IR and IR -> ONNX."""

from mgc.frontend.errors import ModelError
from mgc.frontend.exporter import OPSET, export_graph
from mgc.frontend.importer import ImportedModel, import_model, unaccounted

__all__ = ["OPSET", "ImportedModel", "ModelError", "export_graph", "import_model", "unaccounted"]
