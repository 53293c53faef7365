"""Loading a model to be trained: initializers split, parameters kept as they are, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from mgc.frontend.budget import Budget
from mgc.frontend.detached import without_restored
from mgc.frontend.importer import NOTHING, ImportedModel, Named, import_model
from mgc.frontend.load import Source, embed_data, load_model, to_array
from mgc.frontend.split_initializers import split_initializers
from mgc.frontend.validation import unique_names
from mgc.ir.training import Spectrum


@dataclass
class TrainableModel:
    """A model whose initializers can be trained.

    `imported.graph` holds them as constants under their initializer names (`onnx_name`), as often as they are
    reshaped. `weights` are the float initializers in float32, in their own shapes; `parameters` maps those that a
    training script would hold for parameters to their names in PyTorch. `spectra` are those that are divided by
    their spectral norm. `model` is the ONNX model whose initializers these are: trained weights go back into it.
    """

    imported: ImportedModel
    model: ModelProto
    weights: dict[str, np.ndarray]
    parameters: dict[str, str]
    warnings: tuple[str, ...]
    spectra: tuple[Spectrum, ...] = ()


def load_trainable(
    source: Source,
    *,
    batch: int = 1,
    dims: Mapping[str, int] | None = None,
    budget: Budget | None = None,
    named: Named = NOTHING,
) -> TrainableModel:
    """Loads an ONNX model (path, bytes or ModelProto; never written) to train it.

    `batch` and `dims` bind its dynamic dimensions, `named` are as `import_model` has them. Raises ModelError: what is
    wrong, where, what to do.
    """
    loaded = load_model(source)
    for tensor in loaded.weights.values():
        embed_data(tensor, loaded.folder)
    split = split_initializers(loaded.proto)
    imported = import_model(split.model, batch=batch, dims=dims, keep_parameters=True, budget=budget, named=named)
    imported.model_sha256 = loaded.sha256
    restored = set(imported.node_names) - set(unique_names(loaded.proto.graph.node))
    if restored:
        imported.node_names = [n for n in imported.node_names if n not in restored]
        for node in imported.graph.nodes:
            node.sources = without_restored(node.sources, imported.node_names)
        for name in restored & set(imported.graph.absorbed):
            del imported.graph.absorbed[name]
    weights: dict[str, np.ndarray] = {}
    for tensor in split.model.graph.initializer:
        array = to_array(tensor)
        if array.dtype.kind == "f" or tensor.name in split.parameters:
            weights[tensor.name] = array.astype(np.float32, copy=False)
    warnings = (*imported.warnings, *split.warnings)
    warnings = tuple(dict.fromkeys(warnings))
    return TrainableModel(imported, split.model, weights, split.parameters, warnings, split.spectra)
