import json
from dataclasses import replace

import numpy as np
import pytest
from entries import with_entry, with_plan
from handmade import chain

from mgc.report import VIEWS, ReportError, facts, formats, report

SUMMARY = """\
program  chain
tensors  9.8 KiB in 6
target        liu2018, batch 3, inference
crossbars     2 of 16,128 in 2 groups
instructions  10: 2 program, 2 mvm, 2 vec, 1 move, 1 load, 1 store, 1 host
MACs          2,000 useful, 2,000 on crossbars
schedule      OPTIMAL: 975 cycles (975 ns), proven bound 974, gap 0.1 %
latency       975 ns for a batch of 3
throughput    3,076,923 samples/s
energy        350 nJ for a batch of 3
on the host   1 op (TopK)

Run on the host, not on the chip
  op    ONNX node  why
  TopK  /gen/TopK  the chip has no sorting unit

Inputs and outputs
          name   dtype    in the model  a micro-batch  batched
  input   z      float32  N×100         1×100          yes
  output  image  float32  N×100         1×100          yes

Where every ONNX node went (4)
  ONNX node                 went to
  /gen/conv0/ConvTranspose  program, vec, mvm (instructions 0, 3-4)
  /gen/conv1/ConvTranspose  program, vec, mvm (instructions 1, 5-6)
  /gen/TopK                 host (instruction 7)
  /gen/Identity             identity
"""


def test_summary_text():
    assert report(chain(host=True)) == SUMMARY


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("layers", [1, 12])
def test_text_fits_80_columns_without_trailing_blanks(view, layers):
    lines = report(chain(layers=layers, host=True), view).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any(line.endswith(" ") for line in lines)


@pytest.mark.parametrize("view", VIEWS)
def test_long_names_fold_and_stay_whole(view):
    program = chain()
    long = "/generator/" + "block/" * 30 + "ConvTranspose[0]"
    sources = tuple((long,) if names else names for names in program.sources)
    groups = tuple(replace(g, sources=(long,), name="g" * 50) for g in program.groups)
    text = report(replace(program, sources=sources, groups=groups), view)
    assert max(map(len, text.splitlines())) <= 80
    if view == "summary":
        assert long in "".join(line.strip().split("  ")[0] for line in text.splitlines())


@pytest.mark.parametrize("view", VIEWS)
def test_json_is_one_object_of_plain_values(view):
    text = report(chain(host=True), view, "json")
    assert json.loads(text) == facts(chain(host=True), view)
    assert text.count("\n") == 1


def test_schedule_json_has_exactly_the_agreed_keys():
    shown = facts(chain(micro_batches=2), "schedule")
    assert list(shown) == [
        "schema_version",
        "clock_ns",
        "makespan_cycles",
        "units",
        "tasks",
        "offchip_bytes_per_cycle",
        "entries",
    ]
    assert list(shown["units"][0]) == ["name", "kind", "capacity"]
    task_keys = ["id", "name", "op", "unit", "phase", "micro_batch", "start", "duration"]
    task_keys += ["offchip_bytes", "onnx_nodes", "deps", "entry"]
    assert all(list(task) == task_keys for task in shown["tasks"])
    plan = {"makespan_cycles": shown["makespan_cycles"], "period_cycles": shown["makespan_cycles"]}
    assert shown["entries"] == [{"name": "testing", "kind": "test", "repeats": 1, **plan}]


def test_tasks_are_numbered_and_depend_on_earlier_ends():
    program = chain(layers=3, micro_batches=4)
    last = program.instructions[-1]
    loop = replace(last, after_previous=((last.id, 1), (last.id - 1, 2)))
    shown = facts(replace(program, instructions=(*program.instructions[:-1], loop)), "schedule")
    tasks = shown["tasks"]
    assert [t["id"] for t in tasks] == list(range(len(tasks)))
    assert len(tasks) == 4 * (len(program.instructions) - 3)  # the three PROGRAMs are no tasks
    assert {t["op"] for t in tasks}.isdisjoint({"program"})
    for task in tasks:
        for dep in task["deps"]:
            assert tasks[dep]["start"] + tasks[dep]["duration"] <= task["start"]
    per_batch = len(tasks) // 4
    assert tasks[3 * per_batch - 1]["deps"] == [per_batch - 2, 2 * per_batch - 1, 3 * per_batch - 2]
    assert max(t["start"] + t["duration"] for t in tasks) == shown["makespan_cycles"]
    assert {t["unit"] for t in tasks} <= {u["name"] for u in shown["units"]}
    assert {t["phase"] for t in tasks} == {"testing"}


def test_headline_has_the_keys_of_compile():
    from mgc.report.views.summary import headline

    assert list(headline(chain(host=True))) == [
        "mode", "target", "batch", "crossbars", "instructions", "macs_useful", "macs_mapped", "host_ops",
        "host_op_types", "products_off_crossbars", "losses", "schedule", "latency_s", "energy_j", "samples_per_s",
    "expected_psnr_db", "rewriting",
        "objective", "choices",
    ]  # fmt: skip
    shown = headline(chain(host=True))
    assert shown["host_ops"] == 1
    assert shown["host_op_types"] == ["TopK"]
    assert shown["crossbars"] == {"used": 2, "available": 16128}
    assert list(shown["schedule"]) == ["status", "makespan_cycles", "lower_bound_cycles", "gap", "tasks"]
    assert shown["schedule"]["tasks"] == 24


def test_every_node_is_in_the_summary_once():
    nodes = facts(chain(host=True))["nodes"]
    assert {n["node"] for n in nodes} == {
        "/gen/conv0/ConvTranspose", "/gen/conv1/ConvTranspose", "/gen/TopK", "/gen/Identity",
    }  # fmt: skip
    assert len(nodes) == 4
    assert all(bool(n["instructions"]) != bool(n["reason"]) for n in nodes)


def test_mapping_tells_blocks_and_use():
    group = facts(chain(), "mapping")["groups"][1]
    assert (group["row_blocks"], group["column_blocks"], group["crossbars"]) == (1, 2, 1)
    assert group["utilisation"] == pytest.approx(100 * 20 * 8 / (2 * 128 * 128))


def test_mapping_tells_turns_of_transposed_reads(trained):
    read = {trained.groups[i.group].name for i in trained.instructions if i.mnemonic == "mvm_t"}
    for width, turns in ((0, 16), (64, 2)):
        packing = replace(trained.groups[0].arithmetic, plane_columns=width)
        program = replace(trained, groups=tuple(replace(g, arithmetic=packing) for g in trained.groups))
        found = {g["name"]: (g["plane_columns"], g["transposed_turns"]) for g in facts(program, "mapping")["groups"]}
        assert found == {g.name: (width, turns if g.name in read else None) for g in program.groups}
        assert f"{turns} turns ({len(read)} groups)" in report(program, "mapping")


def test_memory_tells_bytes_of_each_space():
    shown = facts(chain(host=True), "memory")
    assert {s["space"] for s in shown["spaces"]} == {"edram", "dram"}
    by_name = {b["name"]: b for b in shown["buffers"]}
    assert by_name["sum0"]["bytes"] == 800
    assert by_name["image.view"]["alias_of"] == by_name["sorted"]["id"]
    ends = [b["offset"] + b["slots"] * b["bytes"] for b in shown["buffers"] if b["space"] == "edram"]
    assert max(ends) == next(s["bytes"] for s in shown["spaces"] if s["space"] == "edram")


def test_an_element_type_that_numpy_lacks_has_a_size():
    program = chain()
    buffers = (replace(program.buffers[0], dtype="bfloat16"), *program.buffers[1:])
    assert facts(replace(program, buffers=buffers), "memory")["buffers"][0]["bytes"] == 200


def test_instructions_carry_all_their_fields():
    shown = facts(chain(), "instructions")
    assert shown["counts"] == {"program": 2, "mvm": 2, "vec": 2, "move": 1, "load": 1, "store": 1}
    mvm = next(i for i in shown["instructions"] if i["op"] == "mvm")
    assert mvm["fields"]["signed"] is False
    assert mvm["onnx_nodes"] == ["/gen/conv0/ConvTranspose"]


def test_costs_missing_from_a_program_are_null_and_a_dash():
    program = replace(chain(), meta={})
    assert facts(program, "cost")["energy_j"] is None
    assert "energy          -, - a sample" in report(program, "cost")
    assert "0 of 0" not in report(program)


def test_energy_by_component_adds_up():
    program = chain()
    meta = {**program.meta, "energy": {"adc": 3e-7, "dac": 1e-7}}
    text = report(replace(program, meta=meta), "cost")
    assert "adc        300 nJ  75.0 %" in text
    assert text.index("adc") < text.index("dac")


BILL = {
    "energy_by_phase": {
        "discriminator": {"forward": {"adc": 2e-7, "dac": 1e-7}, "update": {"write": 1e-7}},
        "generator": {"gradient": {"vector": 1e-7}},
    },
    "testing": {"batch": 1, "latency_s": 2e-6, "samples_per_s": 5e5, "energy_j": 3e-9, "energy": {"adc": 3e-9}},
    "chips": 2,
    "area_mm2": {"adc": 20.0, "edram": 30.5},
    "average_power_w": 0.25,
    "peak_power_w": {"adc": 30.0, "edram": 6.0},
    "endurance": {
        "endurance_writes": 1e9,
        "writes_per_cell": 1.5,
        "most_writes_per_cell": 2,
        "runs": 5e8,
        "seconds": 4e8,
    },
}


def test_the_bill_of_a_training_program():
    program = chain()
    allocation = {
        "chips": 2,
        "traffic_bytes": 2e6,
        "least_traffic_bytes": 1e6,
        "status": "FEASIBLE",
        "cycles": 12,
        "least_cycles": 10,
        "gap": 0.2,
    }
    meta = {**program.meta, "energy_j": 5e-7, "cost": BILL, "allocation": allocation}
    trained = replace(with_entry(program, kind="train"), meta=meta)
    shown = facts(trained, "cost")
    assert shown["energy_by_phase_j"] == BILL["energy_by_phase"]
    assert sum(j for s in shown["energy_by_phase_j"].values() for c in s.values() for j in c.values()) == 5e-7
    assert (shown["area_mm2_per_chip"], shown["peak_power_w_per_chip"], shown["chips"]) == (50.5, 36.0, 2)
    assert shown["endurance"]["runs"] == 5e8
    text = report(trained, "cost", width=200)
    for line in (
        "target          liu2018, 2 chips",
        "power           250 mW on average, 36.0 W a chip at most",
        "area            50.5 mm² a chip, 101.0 mm² in all",
        "wear            1.5 writes a cell and iteration (2 at most); with 1e+09 writes a cell the chip lasts 5e+08 "
        "iterations, 12.7 years",
        "2.00 MB over links (1.00 MB at least); estimated time within 20.0 % of the best possible split",
        "testing         2.00 µs and 3.00 nJ for 1 sample of the generator",
        "discriminator: 400 nJ, 80.0 %",
        "forward   300 nJ  60.0 %  adc 66.7 %, dac 33.3 %",
        "gradient  100 nJ  20.0 %  vector 100.0 %",
    ):
        assert line in text, text


def test_groups_on_several_chips_name_them():
    program = chain(layers=3)
    assert facts(program, "mapping")["chips"] == []
    structure = {"chips": 2, "tiles_per_chip": 2, "macros_per_tile": 1, "crossbars_per_macro": 1}
    apart = replace(program, target={"name": "small", "structure": structure})
    shown = facts(apart, "mapping")
    assert shown["chips"] == [{"chip": 0, "used": 2, "available": 2}, {"chip": 1, "used": 1, "available": 2}]
    assert [g["chips"] for g in shown["groups"]] == [[0], [0], [1]]
    text = report(apart, "mapping")
    assert "chips         chip 0: 2; chip 1: 1" in text
    one = replace(program, target={"name": "small", "structure": {**structure, "chips": 1, "tiles_per_chip": 4}})
    assert "chip " not in report(one, "mapping")


def test_inference_wears_nothing():
    program = chain()
    still = {**BILL, "testing": None, "endurance": {**BILL["endurance"], "runs": None, "seconds": None}}
    text = report(replace(program, meta={**program.meta, "cost": still}), "cost")
    assert "wear            no cell is written after the first programming" in text
    assert "testing  " not in text


def test_a_program_without_work_can_be_shown():
    program = chain(layers=0, micro_batches=1)
    for view in VIEWS:
        for format in formats(view):
            assert report(program, view, format)
    assert facts(with_plan(program, lower_bound=0))["schedule"]["gap"] == 0


def test_formats_that_do_not_exist_are_refused_with_those_that_do():
    with pytest.raises(ReportError, match="there is no format 'pdf': schedule comes as text, json, svg, perfetto"):
        report(chain(), "schedule", "pdf")
    with pytest.raises(ReportError, match="only schedule, losses can be shown as svg: cost comes as text, json"):
        report(chain(), "cost", "svg")
    with pytest.raises(ReportError, match="there is no view 'floor'"):
        report(chain(), "floor")


def test_json_numbers_are_pythons():
    program = chain()
    starts = program.entry.schedule.starts.astype(np.int32)
    json.dumps(facts(with_plan(program, starts=starts), "schedule"))
