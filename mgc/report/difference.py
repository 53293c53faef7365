"""What differs between two programs: the targets, what they take and cost, how good they are, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import RenderableType

from mgc.isa.program import Program
from mgc.report.plain import plain
from mgc.report.text import section, stack, table
from mgc.report.units import count, si
from mgc.report.views import cost, layers, summary

_FIGURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "crossbars": ("crossbars", count),
    "area_mm2": ("area, all chips", lambda v: f"{v:,.1f} mm²"),
    "area_used_mm2": ("area in use", lambda v: f"{v:,.1f} mm²"),
    "cycles": ("cycles", count),
    "latency_s": ("latency", lambda v: si(v, "s")),
    "samples_per_s": ("samples/s", count),
    "energy_per_sample_j": ("energy a sample", lambda v: si(v, "J")),
    "expected_psnr_db": ("expected PSNR", lambda v: f"{v:.1f} dB"),
    "least_layer_snr_db": ("least SNR of a layer", lambda v: f"{v:.1f} dB"),
    "instructions": ("instructions", count),
}
_MOST_ROWS = 14


def facts(a: Program, b: Program) -> dict[str, Any]:
    """Each thing that differs as {"a", "b"}; figures also with their ratio b / a; `same` lists what does not differ.

    `target`: keys of the target that differ. `energy_by_component_j` in joules a sample. `layers`: by name, figures of
    each; a layer that one program lacks has None there.
    """
    of_target = {key: _sides(x, y) for key, x, y in _paired(_flat(a.target), _flat(b.target)) if x != y}
    figures, same = {}, []
    for key, x, y in _paired(_figures(a), _figures(b)):
        if x == y:
            same += [key] if x is not None else []
        else:
            figures[key] = {**_sides(x, y), "ratio": y / x if x and y is not None else None}
    components = {k: _sides(x, y) for k, x, y in _paired(_components(a), _components(b)) if x != y}
    by_layer = {}
    for name, x, y in _paired(_layers(a), _layers(b)):
        apart = {k: _sides(p, q) for k, p, q in _paired(x or {}, y or {}) if p != q}
        if apart:
            by_layer[name] = apart
    return plain(
        {"target": of_target, "figures": figures, "energy_by_component_j": components, "layers": by_layer, "same": same}
    )


def render(a: Program, b: Program, names: tuple[str, str]) -> RenderableType:
    """The same for people, in one screen: of layers and components those whose energy or cycles differ most."""
    found = facts(a, b)
    parts = []
    keys = [(key, _said(v["a"]), _said(v["b"])) for key, v in found["target"].items() if key not in _WORDS]
    parts.append(section("Target", table(["~key", *_heads(names)], keys) if keys else "The same."))
    figures = []
    for key, (text, say) in _FIGURES.items():
        if (v := found["figures"].get(key)) is not None:
            figures.append((text, _shown(v["a"], say), _shown(v["b"], say), _times(v["ratio"])))
    same = ", ".join(_FIGURES[k][0] for k in found["same"] if k in _FIGURES)
    told = table(["", *_heads(names), ">b / a"], figures) if figures else "All are the same."
    parts.append(section("Figures", stack(told, *([f"the same: {same}"] if same and figures else []))))
    if found["energy_by_component_j"]:
        parts.append(section("Energy a sample", _most("component", found["energy_by_component_j"], names, energy=True)))
    for key, title in (("energy_j", "Energy of layers, a sample"), ("cycles", "Cycles of layers")):
        sides = {node: v[key] for node, v in found["layers"].items() if key in v}
        if sides:
            parts.append(section(title, _most("ONNX node", sides, names, energy=key == "energy_j")))
    return stack(*parts)


_WORDS = ("name", "title", "description")


def _most(what: str, sides: Mapping[str, Mapping[str, Any]], names: tuple[str, str], *, energy: bool) -> RenderableType:
    """The rows that differ most, and how many more there are."""
    say = (lambda v: si(v, "J")) if energy else count
    ordered = sorted(sides.items(), key=lambda item: -abs((item[1]["b"] or 0) - (item[1]["a"] or 0)))
    rows = [(name, _shown(v["a"], say), _shown(v["b"], say), _times(_ratio(v))) for name, v in ordered[:_MOST_ROWS]]
    more = [f"and {len(ordered) - _MOST_ROWS} more that differ less"] if len(ordered) > _MOST_ROWS else []
    return stack(table([f"~{what}", *_heads(names), ">b / a"], rows), *more)


def _heads(names: tuple[str, str]) -> list[str]:
    return [f">a: {names[0]}", f">b: {names[1]}"]


def _figures(program: Program) -> dict[str, float | None]:
    head, bill = summary.headline(program), cost.facts(program)
    area, chips = bill["area_mm2_per_chip"], bill["chips"] or 1
    seen = [v["output_snr_db"] for v in layers.facts(program)["layers"] if v["output_snr_db"] is not None]
    return {
        "crossbars": head["crossbars"]["used"],
        "area_mm2": None if area is None else area * chips,
        "area_used_mm2": (bill.get("area_mm2") or {}).get("used"),
        "cycles": head["schedule"]["makespan_cycles"],
        "latency_s": head["latency_s"],
        "samples_per_s": head["samples_per_s"],
        "energy_per_sample_j": bill["energy_per_sample_j"],
        "expected_psnr_db": head.get("expected_psnr_db"),
        "least_layer_snr_db": min(seen, default=None),
        "instructions": head["instructions"],
    }


def _components(program: Program) -> dict[str, float]:
    bill = cost.facts(program)
    return {name: joules / (bill["batch"] or 1) for name, joules in bill["energy_by_component_j"].items()}


def _layers(program: Program) -> dict[str, dict[str, Any]]:
    """Crossbars, cycles and energy of each layer, under the names of its ONNX nodes."""
    bill = cost.facts(program)
    found = {}
    for layer in bill.get("layers") or ():
        figures = {"crossbars": layer["crossbars"], "cycles": layer["cycles"]}
        figures["energy_j"] = layer["energy_j"] / (bill["batch"] or 1)
        found[", ".join(layer["onnx_nodes"]) or layer["name"]] = figures
    return found


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _paired(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(key, a.get(key), b.get(key)) for key in dict.fromkeys((*a, *b))]


def _sides(a: Any, b: Any) -> dict[str, Any]:
    return {"a": a, "b": b}


def _ratio(sides: Mapping[str, Any]) -> float | None:
    return sides["b"] / sides["a"] if sides["a"] and sides["b"] is not None else None


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.3g}×"


def _shown(value: float | None, say: Callable[[float], str]) -> str:
    return "-" if value is None else say(value)


def _said(value: Any) -> str:
    return "-" if value is None else ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
