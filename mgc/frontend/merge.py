"""Several ONNX models side by side in one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto, inliner

from mgc.frontend.errors import ModelError
from mgc.frontend.onnx_graph import fresh_name, keep, rename_values, subgraphs


def merge_models(models: Mapping[str, ModelProto], name_of: Callable[[str, str], str] | None = None) -> ModelProto:
    """One model that holds all of several, which stay independent of each other.

    Inputs of one name and type are one. `name_of(model, initializer)` names initializers ("" for no opinion), and those
    of one such name are one; other names that are taken get the model's name in front. ModelError if the models use
    different operator sets.
    """
    parts = {name: _own(model) for name, model in models.items()}
    _check_opsets(list(parts.values()))
    result = ModelProto()
    result.ir_version = max(m.ir_version for m in parts.values())
    result.graph.name = " and ".join(parts)
    taken: set[str] = set()
    held: set[str] = set()  # initializers that name_of has named
    inputs: dict[str, ValueInfoProto] = {}
    for name, part in parts.items():
        _add_opsets(result, part)
        names = _names(part.graph)
        renamed: dict[str, str] = {}
        shared: set[str] = set()
        for tensor in part.graph.initializer:
            given = name_of(name, tensor.name) if name_of else ""
            wanted = given or tensor.name
            if given and given in held:
                shared.add(given)
            elif wanted in taken:
                wanted = fresh_name(f"{name}.{wanted}", taken | names, 2)
            renamed[tensor.name] = wanted
            held |= {given} if given else set()
        for info in part.graph.input:
            if info.name not in renamed:
                same = info.name in inputs and inputs[info.name].type == info.type
                clash = info.name in taken and not same
                renamed[info.name] = fresh_name(f"{name}.{info.name}", taken | names, 2) if clash else info.name
        for other in names - set(renamed):
            renamed[other] = fresh_name(f"{name}/{other}", taken | names, 2) if other in taken else other
        rename_values(part.graph, lambda name, names=renamed: names.get(name, name))
        for info in part.graph.input:
            inputs.setdefault(info.name, info)
        taken |= set(renamed.values())
        result.graph.initializer.extend(t for t in part.graph.initializer if t.name not in shared)
        for field in ("node", "output", "value_info"):
            getattr(result.graph, field).extend(getattr(part.graph, field))
    result.graph.input.extend(inputs.values())
    _number_nodes(result.graph.node)
    return result


def _own(model: ModelProto) -> ModelProto:
    """A copy without functions and without initializers among its inputs."""
    copy = ModelProto()
    copy.CopyFrom(inliner.inline_local_functions(model) if model.functions else model)
    weights = {t.name for t in copy.graph.initializer}
    keep(copy.graph.input, lambda i: i.name not in weights)
    return copy


def _check_opsets(models: Sequence[ModelProto]) -> None:
    """ModelError where two models use different versions of one operator set."""
    versions: dict[str, int] = {}
    for model in models:
        for opset in model.opset_import:
            if versions.setdefault(opset.domain, opset.version) != opset.version:
                raise ModelError(
                    f"the models use versions {versions[opset.domain]} and {opset.version} of operator set "
                    f"{opset.domain or 'ai.onnx'!r}",
                    todo="export them with the same opset to have them in one file",
                )


def _add_opsets(result: ModelProto, part: ModelProto) -> None:
    there = {o.domain for o in result.opset_import}
    result.opset_import.extend(o for o in part.opset_import if o.domain not in there)


def _names(graph: GraphProto) -> set[str]:
    """All names of values in a graph and its subgraphs."""
    found = {i.name for i in (*graph.input, *graph.output)} | {t.name for t in graph.initializer}
    for node in graph.node:
        found |= {n for n in (*node.input, *node.output) if n}
        for inner in subgraphs(node):
            found |= _names(inner)
    return found


def _number_nodes(nodes: Sequence[NodeProto]) -> None:
    """Node names must differ: later ones of a name get a number."""
    taken: set[str] = set()
    for node in nodes:
        if node.name:
            node.name = fresh_name(node.name, taken, 2)
            taken.add(node.name)
