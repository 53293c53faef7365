"""What a program says of itself in `meta`: where it comes from, what it computes, what it costs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mgc.isa.program import Program
from mgc.passes.mapping.chips import Split
from mgc.passes.mapping.work import totals
from mgc.passes.state import CompileState
from mgc.targets.codegen.bill import bill
from mgc.targets.cost import CostModel


def meta_of(state: CompileState, program: Program) -> dict[str, Any]:
    """The figures of one run: of all micro-batches, in training of one iteration."""
    attributes = state.module.attributes
    entries = [e for e in state.module.entries if (e.kind == "train" and not e.until) or not state.trains]
    split: Split | None = attributes.get("split")
    work = [0, 0, 0]
    for entry in entries:
        own = totals(entry.graph, state.chip.crossbar.rows)
        work = [w + n * entry.repeats * entry.micro_batches for w, n in zip(work, own, strict=True)]
    hashes: dict[str, str] = attributes.get("hashes", {})
    meta: dict[str, Any] = {
        "compiler": attributes.get("compiler", {}),
        "warnings": list(dict.fromkeys(state.warnings)),
        "model_sha256": next(iter(hashes.values()), ""),
        "crossbars": {
            "used": len({c for g in program.groups for c in g.crossbars}),
            "available": state.target.crossbars,
        },
        "allocation": None if split is None else split.to_json_dict(),
        "macs_useful": work[0],
        "macs_mapped": work[1],
        "row_block_mvms": work[2],
        **bill(program, CostModel(state.target)),
    }
    if not state.trains:
        return meta | {"layers": [asdict(q) for e in entries for q in e.attributes.get("quality", ())]}
    # nobody knows which inputs of a step model are noise: those that are not given
    roles = {"normal": "noise" if len(hashes) > 1 else "", "uniform": "uniform", "given": "data"}
    roles |= {name: name for name in ("key", "pick", "keep")}
    return meta | {
        "models_sha256": hashes,
        "losses": [r.to_json_dict() for r in attributes["losses"]],
        "training": {"inputs": {d.name: roles[d.draw] for d in attributes["data"]}, "dataflow": state.dataflow},
        "export": attributes.get("export"),
    }
