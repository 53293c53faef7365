"""Undoing what PyTorch's exporters do to initializers, before a model that is to be trained is imported.

Both exporters make one initializer of all that have equal data: a BatchNorm's running_mean and bias while both are
zero, and those of all layers of the same width. The TorchScript exporter leaves an Identity under each name; the
dynamo exporter leaves nothing but its notes on every node (`mgc.frontend.modules`). To be trained they must be split.
Only data whose elements are all equal is split: other shared data is a tied weight.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto
from onnx.helper import tensor_dtype_to_np_dtype
from onnx.numpy_helper import from_array

from mgc.frontend.detached import restore_detached
from mgc.frontend.errors import ModelError
from mgc.frontend.interpreter import RANDOM
from mgc.frontend.load import to_array
from mgc.frontend.lost_parameters import KEEP_DYNAMO, KEEP_TORCHSCRIPT, MODULE_NAME, lost_parameters, tie_transposed
from mgc.frontend.modules import Modules, Origin, folded_norm, is_detach, is_noted, of_dropout, role_of
from mgc.frontend.neighbours import Neighbours
from mgc.frontend.onnx_graph import fresh_name, keep
from mgc.frontend.spectral import hold_vectors
from mgc.ir.training import Spectrum

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass
class SplitModel:
    """A model whose initializers are one for each parameter of a module.

    `parameters` maps every initializer that a training script would hold for a parameter to its qualified name in
    PyTorch (its own, but where an exporter made one up). `warnings` name what cannot be undone, `spectra` the
    parameters that are divided by their spectral norm.
    """

    model: ModelProto
    parameters: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    spectra: tuple[Spectrum, ...] = ()


@dataclass(frozen=True)
class Use:
    """An initializer as operand `index` of a node. `kind`: `Origin`'s, or "?" if nothing says."""

    node: NodeProto
    order: int
    index: int
    kind: str
    name: str  # qualified name in PyTorch, "" if unknown

    @property
    def role(self) -> str:
        """weight, bias, running_mean, running_var, or ""."""
        return role_of(self.node, self.index)


def split_initializers(model: ModelProto) -> SplitModel:
    """A copy of the model with merged initializers split again, and which initializers are parameters."""
    copy = ModelProto()
    copy.CopyFrom(model)
    return _Splitter(copy).run()


class _Splitter:
    def __init__(self, model: ModelProto) -> None:
        self.result = SplitModel(model)
        self.graph = model.graph
        self.tensors = {t.name: t for t in self.graph.initializer if t.data_type in _FLOATS}
        self.made_up: set[tuple[int, int]] = set()  # operands that had a name the exporter made up: (node, index)
        self.taken = {n for node in self.graph.node for n in (*node.input, *node.output)} | set(self.tensors)

    def run(self) -> SplitModel:
        restore_detached(self.graph)
        self._drop_identities()
        tie_transposed(self.graph, self.tensors)
        self.result.spectra = hold_vectors(self.graph, self.tensors)
        self.taken |= set(self.tensors)
        modules = Modules(self.tensors, self.graph.node)
        by_name = any(is_noted(n) for n in self.graph.node)
        scoped = any(n.name.startswith("/") for n in self.graph.node)
        self._restore_biases(modules)
        uses = self._uses(modules)
        neighbours = None if by_name or scoped else Neighbours(self.graph, self.tensors)
        self._split_made_up(uses)
        for name in list(uses):
            if len(uses[name]) > 1 and self._is_uniform(name):
                if by_name:
                    self._split_by_name(name, uses)
                elif neighbours is not None:
                    self._split_by_place(name, uses, neighbours)
        self._note_parameters(uses, traced=scoped and not by_name)
        norms = self._note_folded(modules)
        self.result.warnings += lost_parameters(self.graph, self.tensors, self.result.parameters, norms, modules)
        self.result.warnings = list(dict.fromkeys(self.result.warnings))
        return self.result

    # -- reading ---------------------------------------------------------------------------------------------------

    def _drop_identities(self) -> None:
        """Every Identity of an initializer becomes an initializer of its own if it is called like a parameter of a
        module, else another name for the same.
        """
        alias: dict[str, str] = {}
        outputs = {o.name for o in self.graph.output}
        gone: set[str] = set()
        for node in self.graph.node:
            source = alias.get(node.input[0], node.input[0]) if node.op_type == "Identity" and node.input else ""
            if source not in self.tensors or node.output[0] in outputs or is_detach(node):
                continue
            gone.add(node.output[0])
            if MODULE_NAME.fullmatch(node.output[0]):
                self._add_copy(source, node.output[0])
            else:
                alias[node.output[0]] = source
        keep(self.graph.node, lambda node: node.output[0] not in gone)
        for order, node in enumerate(self.graph.node):
            for i, name in enumerate(node.input):
                if name in alias:
                    node.input[i] = alias[name]
                    self.made_up.add((order, i))

    def _restore_biases(self, modules: Modules) -> None:
        """Gives back the biases that the dynamo exporter leaves out because they are all zero (so far)."""
        for node in self.graph.node:
            if len(node.input) != 2 or role_of(node, 2) != "bias" or not is_noted(node) or folded_norm(node):
                continue
            origin = modules.argument(node, "bias")
            weight = self.tensors.get(node.input[1])
            if origin is None or origin.kind != "p" or weight is None:
                continue
            attributes = {a.name: a.i for a in node.attribute}
            channels = {
                "Conv": weight.dims[0],
                "ConvTranspose": weight.dims[1] * attributes.get("group", 1),
                "Gemm": weight.dims[0 if attributes.get("transB", 0) else -1],
            }[node.op_type]
            if origin.name not in self.tensors:
                dtype = tensor_dtype_to_np_dtype(weight.data_type)
                self.graph.initializer.append(from_array(np.zeros(channels, dtype), origin.name))
                self.tensors[origin.name] = self.graph.initializer[-1]
                self.taken.add(origin.name)
            if list(self.tensors[origin.name].dims) == [channels]:
                node.input.append(origin.name)

    def _uses(self, modules: Modules) -> dict[str, list[Use]]:
        uses: dict[str, list[Use]] = {}
        vectors = {name for s in self.result.spectra for name in (s.left, s.right)}
        for order, node in enumerate(self.graph.node):
            for index, name in enumerate(node.input):
                if name not in self.tensors or name in vectors:
                    continue
                origin = modules.parameter(node, index) or Origin("?")
                role, module = role_of(node, index), modules.of(node)
                made_here = f"{module}.{role}" if origin.kind in ("?", "f") and role and module else ""
                uses.setdefault(name, []).append(Use(node, order, index, origin.kind, origin.name or made_here))
        return uses

    def _is_uniform(self, name: str) -> bool:
        tensor = self.tensors[name]
        if tensor.data_location == TensorProto.EXTERNAL:
            return False
        array = to_array(tensor)
        return array.size > 0 and bool(np.all(array == array.reshape(-1)[0]))

    # -- splitting -------------------------------------------------------------------------------------------------

    def _split_by_name(self, name: str, uses: dict[str, list[Use]]) -> None:
        """By what the traced calls say each operand is."""
        parts: dict[str, list[Use]] = {}
        for use in uses[name]:
            # what is neither parameter nor buffer, a loss made; what is unknown stays with the name it has
            key = name if use.kind == "?" and not use.role else use.name
            parts.setdefault(key, []).append(use)
        if len(parts) == 1:
            return
        del uses[name]
        for key, found in parts.items():
            self._give(found, name, key or f"{name}.constant", uses)

    def _split_made_up(self, uses: dict[str, list[Use]]) -> None:
        """Biases under names that the exporter made up (it folded something into them): one for each weight."""
        for name in list(uses):
            parts: dict[str, list[Use]] = {}
            for use in uses[name]:
                weight = use.node.input[1] if use.role == "bias" and len(use.node.input) > 1 else ""
                if (use.order, use.index) in self.made_up and weight in self.tensors and use.name:
                    parts.setdefault(weight, []).append(use)
            gone = [u for found in parts.values() for u in found]
            if not gone or not self._is_uniform(name):
                continue
            uses[name] = [u for u in uses[name] if u not in gone]
            if not uses[name]:
                del uses[name]
            for found in parts.values():
                self._give(found, name, found[0].name, uses)

    def _split_by_place(self, name: str, uses: dict[str, list[Use]], neighbours: Neighbours) -> None:
        """Without notes: by role, and by the weights before and after."""
        parts: list[list[Use]] = []
        made: list[Use] = []  # by a loss
        for use in uses[name]:
            if not use.role and not neighbours.leads_to_weights(use.order):
                made.append(use)
                continue
            for members in parts:
                near = any(neighbours.same_layer(use.order, m.order) for m in members)
                if members[0].role == use.role and (near or use.node.op_type == "PRelu"):
                    members.append(use)
                    break
            else:
                parts.append([use])
        if len(parts) == 1 and len(parts[0]) > 1 and parts[0][0].node.op_type == "PRelu":
            self._warn_shared(name, "one parameter that they share")
        if len(parts) + bool(made) <= 1:
            return
        if any(not m[0].role for m in parts):
            self._warn_shared(name, "one parameter for each")
        own = name.rpartition(".")[2]
        keeper = next((m for m in parts if m[0].role == own), parts[0])
        del uses[name]
        for members in parts:
            new = f"{neighbours.layer(members[0].order)}.{members[0].role or 'parameter'}"
            self._give(members, name, name if members is keeper else new, uses)
        if made:
            self._give(made, name, f"{name}.constant", uses)

    def _warn_shared(self, name: str, how: str) -> None:
        self.result.warnings.append(
            f"initializer {name} is used in several layers; it is trained as {how}. If that is not what your script "
            "does, export the model again and keep the exporter's notes on the nodes"
        )

    def _give(self, found: list[Use], old: str, new: str, uses: dict[str, list[Use]]) -> None:
        """Lets uses of `old` read an initializer called `new`."""
        if new != old:
            new = fresh_name(new, self.taken)
            self._add_copy(old, new)
            for use in found:
                use.node.input[use.index] = new
        uses[new] = found

    def _add_copy(self, source: str, name: str) -> None:
        copy = self.graph.initializer.add()
        copy.CopyFrom(self.tensors[source])
        copy.name = name
        self.tensors[name] = copy
        self.taken.add(name)

    # -- what is a parameter ---------------------------------------------------------------------------------------

    def _note_parameters(self, uses: dict[str, list[Use]], *, traced: bool) -> None:
        """`traced`: by the TorchScript exporter, which keeps all names of parameters and buffers, and no others."""
        unsure: list[str] = []
        computed: dict[str, str] = {}
        for name, found in uses.items():
            kinds = {u.kind for u in found}
            if re.search(r"(weight_u|weight_v|\._u|\._v)$", name) and "p" not in kinds:
                self.result.warnings.append(
                    f"initializer {name} is spectral normalisation's: it stays as it is, where a training script "
                    "iterates it"
                )
                continue
            folded = "f" in kinds and any(u.role == "weight" for u in found)
            if folded and computed.setdefault(found[0].name or name, name) != name:
                raise ModelError(
                    f"the weight {found[0].name} was computed when the model was exported, for each application anew "
                    "(spectral_norm), so that they are weights apart",
                    where=f"initializers {computed[found[0].name]}, {name}",
                    todo=f"export with {KEEP_DYNAMO}",
                )
            if folded:
                self.result.warnings.append(
                    f"initializer {name} ({found[0].name}) was computed from other parameters when the model was "
                    "exported: it is trained as a plain weight, not as your script trains it; to keep them, export "
                    "with " + KEEP_DYNAMO
                )
            own = traced and name.isidentifier()  # of the model itself, without a module's name
            perhaps = "?" in kinds and (own or self._may_be_parameter(name, found))
            if not kinds & {"p"} and not folded and not perhaps:
                continue
            if traced and not any(u.role for u in found) and not name.endswith((".weight", ".bias")):
                unsure.append(name)
            made_up = MODULE_NAME.fullmatch(name) is None
            qualified = next((u.name for u in found if u.name), "")
            self.result.parameters[name] = qualified if made_up and qualified and not own else name
        if unsure:
            self.result.warnings.append(
                f"trained as parameters: {', '.join(unsure)}; the TorchScript exporter does not tell them from "
                "buffers: if one is a buffer, export with dynamo=True, which does"
            )

    def _may_be_parameter(self, name: str, found: list[Use]) -> bool:
        """Without the exporter's word: what has a module's name, or is an operand that only parameters are."""
        if any(u.role.startswith("running") for u in found):
            return False
        return ("." in name and not name.endswith(".constant")) or any(u.role for u in found)

    def _note_folded(self, modules: Modules) -> set[str]:
        """Warns of dropouts and normalisations that are gone; the modules of the latter."""
        folded: dict[str, dict[str, None]] = {}  # places by how to export instead
        norms: set[str] = set()
        drawn = {modules.of(n) for n in self.graph.node if n.op_type == "Dropout" or n.op_type in RANDOM}
        for node in self.graph.node:
            where = modules.of(node)
            if of_dropout(node) and where not in drawn:
                where = where or node.name
                self.result.warnings.append(f"dropout {where} was left out by the exporter: training goes without it")
            made_up = any(n in self.tensors and n.startswith("onnx::Conv") for n in node.input[1:2])
            if not folded_norm(node) and not made_up:
                continue
            weight = next((n for n in node.input[1:] if n in self.tensors), "")
            where = f"{weight or node.name} ({modules.of(node) or node.name})"
            norms.add(modules.of(node))
            folded.setdefault(KEEP_TORCHSCRIPT if made_up else KEEP_DYNAMO, {})[where] = None
        for how, places in folded.items():
            self.result.warnings.append(
                f"a normalisation (of batches or weights) was folded by the exporter into {', '.join(places)}: trained "
                f"as plain layers, not as your script trains them; to keep it, export with {how}"
            )
        return norms
