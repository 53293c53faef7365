"""`mgc inspect`, `disasm`, `asm` on a compiled program."""

import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import onnx
import pytest

from mgc.report import VIEWS


@pytest.mark.parametrize("view", VIEWS)
def test_text_and_json_of_every_view(mgc, compiled, view):
    text = mgc("inspect", compiled / "G.mgc", view)
    assert text.code == 0
    assert max(map(len, text.out.splitlines())) <= 80
    assert mgc("inspect", compiled / "G.mgc", view, "--json").json == mgc(
        "inspect", compiled / "G.mgc", view, "--format", "json"
    ).json  # fmt: skip


def test_summary_is_the_default_and_names_every_node(mgc, compiled):
    for name in "GDM":
        shown = mgc("inspect", compiled / f"{name}.mgc").out
        nodes = {n.name for n in onnx.load(compiled / f"{name}.onnx").graph.node}
        assert all(f"  {node} " in shown for node in nodes)
        listed = mgc("inspect", compiled / f"{name}.mgc", "--json").json["nodes"]
        assert {n["node"] for n in listed} == nodes


def test_a_node_knows_its_instructions_and_they_know_it(mgc, compiled):
    nodes = mgc("inspect", compiled / "G.mgc", "--json").json["nodes"]
    instructions = mgc("inspect", compiled / "G.mgc", "instructions", "--json").json["instructions"]
    for node in nodes:
        assert node["reason"] or node["instructions"]
        assert all(node["node"] in instructions[i]["onnx_nodes"] for i in node["instructions"])


def test_schedule_json_agrees_with_itself(mgc, compiled):
    shown = mgc("inspect", compiled / "G.mgc", "schedule", "--format", "json").json
    keys = ["clock_ns", "makespan_cycles", "units", "tasks", "offchip_bytes_per_cycle", "entries"]
    assert list(shown) == ["schema_version", *keys]
    tasks = {t["id"]: t for t in shown["tasks"]}
    ends = {i: t["start"] + t["duration"] for i, t in tasks.items()}
    assert max(ends.values()) == shown["makespan_cycles"]
    assert all(ends[d] <= t["start"] for t in tasks.values() for d in t["deps"])
    by_unit: dict[str, list] = {}
    for task in tasks.values():
        by_unit.setdefault(task["unit"], []).append((task["start"], ends[task["id"]]))
    assert set(by_unit) <= {u["name"] for u in shown["units"]}
    assert len({u["name"] for u in shown["units"]}) == len(shown["units"])
    for spans in by_unit.values():
        assert all(a[1] <= b[0] for a, b in zip(sorted(spans), sorted(spans)[1:], strict=False))


def test_svg_to_stdout_and_to_a_file(mgc, compiled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = mgc("inspect", compiled / "G.mgc", "schedule", "--format", "svg").out
    ET.fromstring(text)
    assert "G on liu2018, batch 3" in text
    assert mgc("inspect", compiled / "G.mgc", "schedule", "--format", "svg", "-o", "s.svg").out == ""
    assert Path("s.svg").read_text() == text
    shown = mgc("inspect", compiled / "G.mgc", "schedule", "--format", "svg", "-o", "s.svg", "--json").json
    assert shown["output"] == "s.svg"
    mgc("inspect", compiled / "G.mgc", "cost", "-o", "cost.json", "--json")
    assert json.loads(Path("cost.json").read_text())["target"] == "liu2018"


def test_the_cost_of_inference_and_of_training(mgc, compiled, tmp_path):
    shown = mgc("inspect", compiled / "G.mgc", "cost", "--json").json
    for parts in (shown["energy_by_component_j"], shown["energy_by_phase_j"]["testing"]["forward"]):
        assert sum(parts.values()) == pytest.approx(shown["energy_j"])
    assert shown["area_mm2_per_chip"] > 0 < shown["average_power_w"]
    assert shown["allocation"]["least_cycles"] <= shown["allocation"]["cycles"]
    data = Path(__file__).parents[1] / "data" / "training"
    program = tmp_path / "T.mgc"
    options = ["--discriminator", data / "mlp_D_ts.onnx", "--loss", "bce", "--optimizer", "adam", "-o", program]
    assert mgc("compile", data / "mlp_G_ts.onnx", *options).code == 0
    shown = mgc("inspect", program, "cost", "--json").json
    assert list(shown["energy_by_phase_j"]) == ["discriminator", "generator"]
    spent = [c for stages in shown["energy_by_phase_j"].values() for c in stages.values()]
    assert sum(joules for c in spent for joules in c.values()) == pytest.approx(shown["energy_j"])
    assert shown["endurance"]["runs"] == 1e9
    assert shown["testing"]["energy_j"] > 0
    text = mgc("inspect", program, "cost").out
    for part in ("Energy by phase", "discriminator:", "gradient", "update", "wear", "writes a cell and iteration"):
        assert part in text


def test_a_page_with_samples(mgc, compiled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = mgc("inspect", compiled / "G.mgc", "--format", "html").out
    assert page.startswith("<!DOCTYPE html>")
    assert 'id="samples"' not in page
    assert mgc("inspect", compiled / "G.mgc", "--format", "html", "--samples", 5, "-o", "page.html").out == ""
    text = Path("page.html").read_text()
    assert "5 images of output image, quantized numerics, seed 0, values -1 to 1" in text
    assert text.count("data:image/png;base64,") == 1
    again = mgc("inspect", compiled / "G.mgc", "--format", "html", "--samples", 5, "--seed", 1).out
    assert again != text


def test_samples_that_cannot_be_shown(refused, compiled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "it needs --format html, not text" in refused("inspect", compiled / "G.mgc", "--samples", 4)
    message = refused("inspect", compiled / "D.mgc", "--format", "html", "--samples", 4, "-o", "page.html")
    assert "no output is an image or a signal" in message
    assert message.rstrip().endswith("Leave --samples out.")
    assert "needs --samples N" in refused("inspect", compiled / "G.mgc", "--format", "html", "--checkpoint", ".")
    assert not os.listdir()


def test_a_trace_for_perfetto(mgc, compiled):
    trace = mgc("inspect", compiled / "G.mgc", "schedule", "--format", "perfetto").out
    tasks = mgc("inspect", compiled / "G.mgc", "schedule", "--json").json["tasks"]
    events = json.loads(trace)["traceEvents"]
    assert {e["args"]["task"] for e in events if e["ph"] == "X" and e["cat"] != "test"} == {t["id"] for t in tasks}
    assert sum(e["ph"] == "s" for e in events) == sum(len(t["deps"]) for t in tasks)


def test_formats_that_are_not_there(refused, compiled):
    assert "only schedule can be shown as perfetto" in refused("inspect", compiled / "G.mgc", "--format", "perfetto")
    assert "there is no format 'pdf'" in refused("inspect", compiled / "G.mgc", "schedule", "--format", "pdf")
    assert "comes as text, json, html" in refused("inspect", compiled / "G.mgc", "--format", "svg")
    assert "give the svg a file" in refused("inspect", compiled / "G.mgc", "schedule", "--format", "svg", "--json")


def test_the_program_is_not_overwritten(refused, compiled):
    before = (compiled / "G.mgc").read_bytes()
    assert "would overwrite the program" in refused("inspect", compiled / "G.mgc", "-o", compiled / "G.mgc")
    assert "would overwrite the program" in refused("disasm", compiled / "G.mgc", "-o", compiled / "G.mgc")
    assert (compiled / "G.mgc").read_bytes() == before


def without_origin(text):
    """Assembler text without the line that says in which file its tensors are."""
    return [line for line in text.splitlines() if not line.startswith(".tensors")]


@pytest.mark.parametrize("name", ["G", "D", "M"])
def test_disasm_and_asm_round_trip(mgc, compiled, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    text = mgc("disasm", compiled / f"{name}.mgc")
    assert text.code == 0
    Path("p.s").write_text(text.out)
    outcome = mgc("asm", "p.s", "--json")
    assert outcome.code == 0
    assert outcome.json["program"] == "p.mgc"
    assert without_origin(mgc("disasm", "p.mgc").out) == without_origin(text.out)
    assert Path("p.mgc").read_bytes() == (compiled / f"{name}.mgc").read_bytes()
    assert mgc("disasm", compiled / f"{name}.mgc", "--json").json["assembly"] == text.out


def test_bad_assembly(refused, compiled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty.s").write_text("")
    Path("bad.s").write_text("hello\n")
    Path("binary.s").write_bytes(b"\xff\xfe\x00")
    for name in ("empty.s", "bad.s", "binary.s"):
        assert name in refused("asm", name)
    assert "there is no file nope.s" in refused("asm", "nope.s")
    assert "would overwrite the assembler text" in refused("asm", "bad.s", "-o", "bad.s")
    assert sorted(os.listdir()) == ["bad.s", "binary.s", "empty.s"]
