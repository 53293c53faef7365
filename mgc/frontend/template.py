"""What a training program carries of its models, so that trained weights can go back into them.

A template is an ONNX model without the data of the initializers that are states. `mgc.training.export` fills it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto

from mgc.frontend.errors import ModelError
from mgc.frontend.inference_form import to_inference_form
from mgc.frontend.merge import merge_models
from mgc.frontend.networks import ExtractedNetwork, extract_networks
from mgc.frontend.onnx_graph import rename_values
from mgc.ir.training import State

TENSOR = "onnx/"
"""Program tensors that hold templates begin with this."""


@dataclass(frozen=True)
class ModelTemplate:
    """`model` with its data still in it; `states` maps those of its initializers that are states to their names."""

    name: str
    model: ModelProto
    states: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """The model without the data of its states, the same bytes for the same model."""
        copy = ModelProto()
        copy.CopyFrom(self.model)
        for tensor in copy.graph.initializer:
            if tensor.name in self.states:
                for field in ("raw_data", "float_data", "double_data", "int32_data", "external_data", "data_location"):
                    tensor.ClearField(field)
        return copy.SerializeToString(deterministic=True)


@dataclass(frozen=True)
class ModelTemplates:
    """The models of a training program.

    `whole` holds all networks (None where they cannot be in one file; a warning says why), `networks` each one in
    inference form; `testing` is the generator, or all networks that generate samples for others.
    """

    whole: ModelTemplate | None
    networks: tuple[ModelTemplate, ...]
    testing: ModelTemplate | None
    warnings: tuple[str, ...] = ()

    def tensors(self) -> dict[str, np.ndarray]:
        """What goes into the program's tensors."""
        return {_tensor(s): np.frombuffer(s.to_bytes(), np.uint8) for s in self._exported()}

    def meta(self) -> dict[str, Any]:
        """What goes into the program's `meta` under "export": which tensor holds which network, and its states."""

        def entry(template: ModelTemplate) -> dict[str, Any]:
            return {"tensor": _tensor(template), "states": dict(template.states)}

        return {
            "whole": entry(self.whole) if self.whole else None,
            "networks": {s.name: entry(s) for s in self.networks},
        }

    def _exported(self) -> tuple[ModelTemplate, ...]:
        return (*((self.whole,) if self.whole else ()), *self.networks)


def _tensor(template: ModelTemplate) -> str:
    return TENSOR + (template.name or "whole model")


def step_templates(model: ModelProto, states: Sequence[State], qualified: Mapping[str, str]) -> ModelTemplates:
    """Those of a step model: itself, and the networks in it.

    `model` is `TrainableModel.model`, `qualified` its `parameters`; `states` those of the iteration.
    """
    names = {s.onnx_name: s.name for s in states if s.onnx_name}
    groups = {s.onnx_name: s.group for s in states if s.onnx_name and s.kind == "parameter"}
    networks, warnings = extract_networks(model, groups, qualified)
    whole = ModelTemplate("", model, _states_in(model, names))
    return _templates(whole, networks, {n.name: names for n in networks}, warnings)


def composed_templates(models: Mapping[str, ModelProto], states: Sequence[State]) -> ModelTemplates:
    """Those of a step composed of a generator and a discriminator: `models` by the names of their groups.

    `models` are `TrainableModel.model`; `states` those of the iteration.
    """
    names = {network: {s.onnx_name: s.name for s in states if s.network == network} for network in models}
    warnings: list[str] = []
    whole: ModelTemplate | None = None
    try:
        merged = merge_models(
            _with_inputs_of_their_own(models), lambda network, initializer: names[network].get(initializer, "")
        )
        whole = ModelTemplate("", merged, _states_in(merged, {s.name: s.name for s in states}))
    except ModelError as error:
        warnings.append(f"the trained networks cannot be exported as one file, only as one each: {error}")
    first = next(iter(models))
    networks = [ExtractedNetwork(n, n, to_inference_form(m), n == first) for n, m in models.items()]
    return _templates(whole, networks, names, warnings)


def _with_inputs_of_their_own(models: Mapping[str, ModelProto]) -> dict[str, ModelProto]:
    """The discriminator's only input is the sample, never the generator's input of the same name."""
    (first, generator), (second, discriminator) = models.items()
    inputs = {i.name for i in generator.graph.input}
    own = [i.name for i in discriminator.graph.input if i.name not in {t.name for t in discriminator.graph.initializer}]
    if len(own) == 1 and own[0] in inputs:
        copy = ModelProto()
        copy.CopyFrom(discriminator)
        rename_values(copy.graph, lambda name: "real" if name == own[0] else name)
        discriminator = copy
    return {first: generator, second: discriminator}


def _templates(
    whole: ModelTemplate | None,
    networks: Sequence[ExtractedNetwork],
    names: Mapping[str, Mapping[str, str]],
    warnings: Sequence[str],
) -> ModelTemplates:
    each = tuple(ModelTemplate(n.name, n.model, _states_in(n.model, names[n.name])) for n in networks)
    makers = {n.name: n.model for n in networks if n.generates} or {n.name: n.model for n in networks}
    testing: ModelTemplate | None = None
    if len(makers) == 1:
        ((name, _),) = makers.items()
        testing = next(s for s in each if s.name == name)
    elif makers:
        merged = merge_models(makers, lambda network, initializer: names[network].get(initializer, ""))
        every = {state: state for network in names.values() for state in network.values()}
        testing = ModelTemplate(" and ".join(makers), merged, _states_in(merged, every))
    return ModelTemplates(whole, each, testing, tuple(warnings))


def _states_in(model: ModelProto, names: Mapping[str, str]) -> dict[str, str]:
    """The names of the states that a model's initializers are."""
    return {t.name: names[t.name] for t in model.graph.initializer if t.name in names}
