"""The summary: what the program is, what it needs, how good its schedule is, and where every ONNX node went."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rich.console import RenderableType

from mgc.isa.instructions import Host, Mvm, Vec
from mgc.isa.memory import CONSTANT, Port
from mgc.isa.program import Program
from mgc.report import trace
from mgc.report.text import pairs, section, stack, table
from mgc.report.units import count, decibels, duration, percent, ranges, shape, si, size
from mgc.report.views.instructions import counts
from mgc.report.views.mapping import used_and_available
from mgc.report.views.schedule import status_line, status_of


def headline(program: Program) -> dict[str, Any]:
    """What `mgc compile --json` says of a program, without what only the compiler knows."""
    meta = program.meta
    allocation = meta.get("allocation") or {}
    on_host = host_nodes(program)
    # of runs that overlap the distance counts, not how long one takes
    cycles, bound = program.iteration_cycles, program.iteration_bound
    return {
        "mode": program.mode,
        "target": program.target.get("name"),
        "batch": program.iteration[0].batch,
        "crossbars": used_and_available(program),
        "instructions": len(program.instructions),
        "macs_useful": meta.get("macs_useful"),
        "macs_mapped": meta.get("macs_mapped"),
        "host_ops": sum(len(h["onnx_nodes"]) for h in on_host),
        "host_op_types": sorted({op for h in on_host for op in h["op_types"]}),
        "products_off_crossbars": products_off_crossbars(program),
        "losses": list(meta.get("losses", [])),
        "schedule": {
            "status": status_of(program),
            "makespan_cycles": cycles,
            "lower_bound_cycles": bound,
            "gap": cycles / bound - 1 if bound else 0.0,
            "tasks": sum(int((e.schedule.starts >= 0).sum()) for e in program.entries),
        },
        "latency_s": meta.get("latency_s"),
        "energy_j": meta.get("energy_j"),
        "samples_per_s": meta.get("samples_per_s"),
        "expected_psnr_db": meta.get("expected_psnr_db"),
        "rewriting": meta.get("rewriting"),
        "objective": allocation.get("objective"),
        "choices": allocation.get("choices") or {},
    }


def input_bits(program: Program) -> dict[str, Any] | None:
    """Bits of the codes that products read: the fewest, the most, their mean, and what share of reads those beyond the
    target's `input_bits` add; weighted by multiply-accumulates. None in training, where all have the same.
    """
    reads = [i for i in program.instructions if isinstance(i, Mvm)]
    if program.mode == "training" or not reads:
        return None
    base = int(program.target.get("crossbar", {}).get("input_bits", 0))
    work: dict[int, int] = {}
    usual = added = 0
    for i in reads:
        group = program.groups[i.group]
        held, macs = group.arithmetic, i.window_total * group.matrices * group.rows * group.cols
        work[held.input_bits] = work.get(held.input_bits, 0) + macs
        digits = replace(held, input_bits=base).digits(i.signed) if base else held.digits(i.signed)
        usual, added = usual + macs * digits, added + macs * (held.digits(i.signed) - digits)
    mean = sum(bits * macs for bits, macs in work.items()) / max(sum(work.values()), 1)
    return {"least": min(work), "most": max(work), "mean": mean, "extra_reads": added / max(usual, 1)}


def host_nodes(program: Program) -> list[dict[str, Any]]:
    """Every host instruction: its op types, its ONNX nodes, and why the chip does not run them."""
    found = []
    for instruction in program.instructions:
        if isinstance(instruction, Host):
            segment = program.host_segments[instruction.segment]
            found.append(
                {
                    "op_types": list(segment.op_types),
                    "onnx_nodes": list(trace.onnx_nodes(program, instruction)),
                    "reason": segment.reason,
                }
            )
    return found


# ONNX ops that multiply and add up: what crossbars are for.
_PRODUCTS = frozenset(
    ["Attention", "Conv", "ConvInteger", "ConvTranspose", "DFT", "DeformConv", "Einsum", "GRU", "Gemm", "LSTM",
     "MatMul", "MatMulInteger", "MultiHeadAttention", "QGemm", "QLinearConv", "QLinearMatMul", "RNN", "STFT"]
)  # fmt: skip


def products_off_crossbars(program: Program) -> list[dict[str, Any]]:
    """Every kernel of a vector unit and every host segment that computes matrix products or convolutions: its ONNX
    nodes, and why no crossbar does them.
    """
    found = [
        {"unit": "host", "onnx_nodes": h["onnx_nodes"], "reason": h["reason"]}
        for h in host_nodes(program)
        if not _PRODUCTS.isdisjoint(h["op_types"])
    ]
    for i in program.instructions:
        products = [s for s in i.steps if s.name == "matmul"] if isinstance(i, Vec) else []
        if products:
            constant = any(r.space == CONSTANT for s in products for r in s.args)
            reason = "an operand is constant, but not of a float type" if constant else "both operands are computed"
            found.append({"unit": "vector", "onnx_nodes": list(trace.onnx_nodes(program, i)), "reason": reason})
    return found


def nodes(program: Program) -> list[dict[str, Any]]:
    """Every node of the ONNX model: the instructions it became, or why it has none."""
    by_node: dict[str, list[int]] = {}
    for instruction in program.instructions:
        for node in trace.onnx_nodes(program, instruction):
            by_node.setdefault(node, []).append(instruction.id)
    placed = [
        {
            "node": node,
            "instructions": ids,
            "ops": list(dict.fromkeys(program.instructions[i].mnemonic for i in ids)),
            "reason": None,
        }
        for node, ids in by_node.items()
    ]
    absorbed = [
        {"node": node, "instructions": [], "ops": [], "reason": reason}
        for node, reason in program.absorbed.items()
        if node not in by_node
    ]
    return placed + absorbed


def facts(program: Program) -> dict[str, Any]:
    """The headline, inputs and outputs, host ops with reasons, instructions by opcode, and every ONNX node."""
    return {
        "name": program.name,
        **headline(program),
        "inputs": [_port(p) for p in program.inputs],
        "outputs": [_port(p) for p in program.outputs],
        "groups": len(program.groups),
        "instruction_counts": counts(program),
        "host": host_nodes(program),
        "tensor_bytes": sum(t.nbytes for t in program.tensors.values()),
        "nodes": nodes(program),
    }


def _port(port: Port) -> dict[str, Any]:
    return {name: getattr(port, name) for name in ("name", "dtype", "shape", "batched", "dims")}


def overview(program: Program) -> RenderableType:
    """The figures that matter, and the host ops: the end of `mgc compile` and the head of `mgc inspect`."""
    facts = headline(program)
    crossbars = facts["crossbars"]
    batch = count(facts["batch"])
    by_opcode = ", ".join(f"{n} {name}" for name, n in counts(program).items())
    head = [
        ("target", f"{facts['target']}, batch {batch}, {facts['mode']}"),
        ("crossbars", f"{count(crossbars['used'])} of {count(crossbars['available'])} in {len(program.groups)} groups"),
        ("instructions", f"{count(facts['instructions'])}: {by_opcode}"),
        ("MACs", f"{count(facts['macs_useful'])} useful, {count(facts['macs_mapped'])} on crossbars"),
        ("schedule", status_line(program)),
        ("latency", f"{si(facts['latency_s'], 's')} for a batch of {batch}"),
        ("throughput", f"{count(facts['samples_per_s'])} samples/s"),
        ("energy", f"{si(facts['energy_j'], 'J')} for a batch of {batch}"),
        *_accuracy_lines(program, facts),
        *_rewriting_lines(facts["rewriting"]),
        ("on the host", _host_line(facts)),
    ]
    head += [("replicas" if not k else "", line) for k, line in enumerate(_choice_lines(program, facts))]
    head += [("loss" if not k else "", _loss_line(entry)) for k, entry in enumerate(facts["losses"])]
    tables = [section(title, table(columns, rows)) for title, columns, rows in elsewhere(program)]
    return stack(pairs(head), *tables)


def elsewhere(program: Program) -> list[tuple[str, list[str], list[tuple[str, ...]]]]:
    """Title, columns and rows of the tables of what the chip, or its crossbars, do not compute; those with rows."""
    on_host = [(", ".join(h["op_types"]), ", ".join(h["onnx_nodes"]), h["reason"]) for h in host_nodes(program)]
    products = [
        (", ".join(p["onnx_nodes"]), p["reason"])
        for p in products_off_crossbars(program)
        if p["unit"] == "vector" and p["onnx_nodes"]
    ]
    tables: list[tuple[str, list[str], list[tuple[str, ...]]]] = [
        ("Run on the host, not on the chip", ["~op", "~ONNX node", "~why"], [*on_host]),
        ("Products on vector units, not on crossbars", ["~ONNX node", "~why"], [*dict.fromkeys(products)]),
    ]
    return [t for t in tables if t[2]]


def _accuracy_lines(program: Program, facts: dict[str, Any]) -> list[tuple[str, str]]:
    expected, bits = facts["expected_psnr_db"], input_bits(program)
    lines: list[tuple[str, str]] = []
    if expected is not None:
        lines.append(
            ("accuracy", f"{decibels(expected)} PSNR expected of the outputs, by a run on calibration samples")
        )
    if bits is not None and bits["extra_reads"] > 0:
        spread = f"{bits['least']} to {bits['most']} bits" if bits["least"] < bits["most"] else f"{bits['most']} bits"
        cost = f"what is more than usual adds {percent(bits['extra_reads'])} to the reads"
        lines.append(("input codes", f"{spread}, {bits['mean']:.2f} on average: {cost}"))
    return lines


def _rewriting_lines(rewriting: dict[str, Any] | None) -> list[tuple[str, str]]:
    if rewriting is None:
        return []
    written, needed = count(rewriting["crossbars_written"]), count(rewriting["crossbars_needed"])
    cost = f"{count(rewriting['cycles'])} cycles of writes, {si(rewriting['energy_j'], 'J')}"
    worn = f"{count(rewriting['writes_per_cell'])} writes a cell at most: worn after {rewriting['runs']:.3g} runs"
    return [
        ("rewriting", f"{written} crossbars of the {needed} needed are written in every run: {cost}"),
        ("", f"{worn}, {duration(rewriting['seconds'])} without a pause"),
    ]


def _choice_lines(program: Program, facts: dict[str, Any]) -> list[str]:
    """What each objective would give, of replicas whose cells every iteration writes."""
    clock = float(program.target.get("clock_ns", 1.0)) * 1e-9
    return [
        f"{name}: {si(each['cycles'] * clock, 's')} of reads, {si(each['joules'], 'J')} without off-chip memory, "
        f"{count(each['crossbars'])} crossbars (estimated{', chosen' * (name == facts['objective'])})"
        for name, each in facts["choices"].items()
    ]


def _loss_line(loss: dict[str, Any]) -> str:
    """One entry of `losses`: what its diff-blocks compute, and why the rest of it stays in the graph."""
    blocks = f"{loss['branches']} diff-block{'s' * (loss['branches'] != 1)}"
    rest = f"; the rest stays in the graph: {loss['reason']}" if loss.get("reason") else ""
    return f"{loss['name']}: {loss['kind']}, {blocks}{rest}"


def _host_line(facts: dict[str, Any]) -> str:
    if not facts["host_ops"]:
        return "nothing: every op runs on the chip"
    return f"{count(facts['host_ops'])} op{'s' * (facts['host_ops'] > 1)} ({', '.join(facts['host_op_types'])})"


def render(program: Program) -> RenderableType:
    """The overview, inputs and outputs, and where every ONNX node went."""
    held = sum(t.nbytes for t in program.tensors.values())
    ports = [
        (kind, p.name, p.dtype or "-", shape(p.dims or p.shape), _micro_batch(program, p), "yes" if p.batched else "no")
        for kind, all_ports in (("input", program.inputs), ("output", program.outputs))
        for p in all_ports
    ]
    port_columns = ["", "~name", "dtype", "~in the model", "a micro-batch", "batched"]
    rows = [(n["node"], _where(n)) for n in nodes(program)]
    node_columns = ["~ONNX node", "~went to"]
    return stack(
        pairs([("program", program.name), ("tensors", f"{size(held)} in {len(program.tensors)}")]),
        overview(program),
        section("Inputs and outputs", table(port_columns, ports)),
        section(f"Where every ONNX node went ({len(rows)})", table(node_columns, rows)),
    )


def _micro_batch(program: Program, port: Port) -> str:
    """The shape of one micro-batch; a dash for what has none before the run (a sequence, say)."""
    opaque = port.buffer >= 0 and program.buffers[port.buffer].kind == "opaque"
    return "-" if opaque else shape(port.shape)


def _where(node: dict[str, Any]) -> str:
    if node["reason"] is not None:
        return str(node["reason"])
    ids = node["instructions"]
    return f"{', '.join(node['ops'])} (instruction{'s' * (len(ids) > 1)} {ranges(ids)})"
