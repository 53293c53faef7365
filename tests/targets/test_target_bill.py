"""The bill: sums over phases, stages and components, wear, leakage, area and power, for inference and training."""

from pathlib import Path

import pytest

import mgc
from mgc.compiler import compile_training
from mgc.isa.instructions import Outer, Update
from mgc.isa.program import Program
from mgc.report import facts
from mgc.targets import CostModel, chip_area_mm2, load_target, peak_power_w, target_names
from mgc.targets.codegen.account import Account
from mgc.targets.codegen.bill import STAGES, bill, endurance_of, energy_by_stage
from mgc.targets.description import Target
from mgc.targets.energy import EnergyBreakdown

DATA = Path(__file__).parents[1] / "data" / "training"


def trained(loss: str = "bce", target: str | Target = "liu2018") -> Program:
    discriminator = DATA / "mlp_D_ts.onnx"
    return compile_training(DATA / "mlp_G_ts.onnx", discriminator=discriminator, loss=loss, target=target)


@pytest.fixture(scope="module", params=target_names())
def both(request):
    """(inference, training) on one target."""
    return mgc.compile(DATA / "mlp_G_ts.onnx", target=request.param, calibrate="minmax"), trained(target=request.param)


def test_energy_adds_up_by_component_and_by_phase_to_the_total(both):
    for program in both:
        meta = program.meta
        by_phase = meta["cost"]["energy_by_phase"]
        total = sum(joules for stages in by_phase.values() for c in stages.values() for joules in c.values())
        assert total == pytest.approx(meta["energy_j"], rel=1e-12)
        assert sum(meta["energy"].values()) == pytest.approx(meta["energy_j"], rel=1e-12)
        for component, joules in meta["energy"].items():
            parts = sum(c[component] for stages in by_phase.values() for c in stages.values())
            assert parts == pytest.approx(joules, rel=1e-12)


def test_layers_and_the_roof_add_up(both):
    for program in both:
        shown = facts(program, "cost")
        leakage = program.meta["energy"]["static"]
        assert sum(r["energy_j"] for r in shown["layers"]) + leakage == pytest.approx(shown["energy_j"], rel=1e-9)
        held = sum(len(g.crossbars) for g in program.groups)
        assert sum(r["crossbars"] for r in shown["layers"]) == held
        assert 0 < shown["area_mm2"]["used"] <= shown["area_mm2"]["chip"]
        assert shown["area_mm2"]["chip"] == pytest.approx(shown["area_mm2_per_chip"] * shown["chips"])
        roof = shown["roof"]
        assert [r["busy_cycles"] for r in roof] == sorted((r["busy_cycles"] for r in roof), reverse=True)
        for row in roof:
            assert 0 < row["share"] <= 1  # no resource works longer than there is time
            assert row["share"] * row["samples_per_s"] == pytest.approx(shown["samples_per_s"], rel=1e-9)


def test_phases_are_those_of_the_program(both):
    inference, training = both
    assert set(inference.meta["cost"]["energy_by_phase"]) - {"chip"} == {"testing"}
    phases = training.meta["cost"]["energy_by_phase"]
    assert list(phases)[:2] == ["discriminator", "generator"]
    for phase in ("discriminator", "generator"):
        assert set(phases[phase]) == {"forward", "loss", "backward", "gradient", "update"}
        assert list(phases[phase]) == sorted(phases[phase], key=STAGES.index)
        assert phases[phase]["update"]["write"] > 0 == phases[phase]["forward"]["write"]
        assert phases[phase]["loss"]["diff"] > 0 == phases[phase]["backward"]["diff"]
    leaking = load_target(inference.target["name"]).power.static_mw_per_tile > 0
    assert ("chip" in phases) == leaking


def test_stages_hold_what_their_instructions_cost():
    program = trained()
    cost = CostModel(load_target("liu2018"))
    account = Account(program, cost)
    spent = energy_by_stage(account)
    own = [i for e in program.entries if e.kind == "train" for i in program.instructions[e.first : e.stop]]
    for kind, stage in ((Update, "update"), (Outer, "gradient")):
        least = EnergyBreakdown.sum(account.energy(i) for i in own if isinstance(i, kind)).total
        booked = sum(e.total for (_, s), e in spent.items() if s == stage)
        assert 0 < least <= booked * (1 + 1e-12)
    writes = sum(e.write for e in spent.values())
    cells = sum(program.groups[i.group].replicas * program.groups[i.group].cells
                for i in own if isinstance(i, Update) and i.group >= 0)  # fmt: skip
    assert writes == pytest.approx(cells * cost.target.cell.write_energy_pj * 1e-12)
    leaky = cost.target.model_copy(update={"power": cost.target.power.model_copy(update={"static_mw_per_tile": 2.0})})
    with_leak = energy_by_stage(Account(program, CostModel(leaky)))
    seconds = program.iteration_cycles * 1e-9
    assert with_leak["chip", "leakage"].static == pytest.approx(168 * 2e-3 * seconds)


def test_cells_wear_by_updates_alone():
    inference = mgc.compile(DATA / "mlp_G_ts.onnx", calibrate="minmax")
    assert endurance_of(inference).most == 0
    assert inference.meta["cost"]["endurance"]["runs"] is None
    program = trained()
    found = endurance_of(program)
    assert (found.most, found.mean) == (1, 1.0)
    worn = program.meta["cost"]["endurance"]
    target = load_target("liu2018")
    assert worn["runs"] == target.cell.endurance_writes
    assert worn["seconds"] == pytest.approx(worn["runs"] * program.meta["latency_s"])


def test_critic_steps_wear_and_cost_the_discriminator_more():
    phases = ["discriminator=loss_d,steps=3", "generator=loss_g"]
    program = compile_training(DATA / "step_mlp_wgan_ts.onnx", phases=phases)
    found = endurance_of(program)
    assert found.most == 3
    assert 1 < found.mean < 3
    assert program.meta["cost"]["endurance"]["runs"] == 1e9 / 3
    written = {"discriminator": 0, "generator": 0}
    times = {"discriminator": 3, "generator": 1}
    for group in program.groups:
        (phase,) = {s.phase for s in program.states for p in s.pieces if p.group == group.id and s.kind == "parameter"}
        written[phase] += times[phase] * group.replicas * group.cells
    by_phase = program.meta["cost"]["energy_by_phase"]
    for phase, cells in written.items():
        assert by_phase[phase]["update"]["write"] == pytest.approx(cells * 80e-12)


def test_area_power_and_testing_are_those_of_the_target_and_the_entry():
    program = trained()
    cost = CostModel(load_target("liu2018"))
    found = program.meta["cost"]
    assert found["area_mm2"] == chip_area_mm2(cost.target)
    assert found["peak_power_w"] == peak_power_w(cost.target)
    assert found["average_power_w"] == pytest.approx(program.meta["energy_j"] / program.meta["latency_s"])
    (entry,) = [e for e in program.entries if e.kind == "test"]
    account = Account(program, cost)
    tasks = program.instructions[entry.first : entry.stop]
    assert found["testing"]["energy_j"] == pytest.approx(sum(account.energy(i).total for i in tasks))
    assert found["testing"]["latency_s"] == cost.seconds(entry.schedule.makespan)


def test_several_chips_cost_their_links_and_all_their_leakage():
    target = load_target("liu2018")
    structure = target.structure.model_copy(update={"chips": 3, "tiles_per_chip": 1, "macros_per_tile": 7})
    crossbar = target.crossbar.model_copy(update={"rows": 16, "cols": 16})
    small = target.model_copy(update={"structure": structure, "crossbar": crossbar})
    program = trained(target=small)
    split = program.meta["allocation"]
    assert split["chips"] > 1
    assert split["traffic_bytes"] > 0 <= split["least_traffic_bytes"] <= split["traffic_bytes"]
    assert program.meta["energy"]["link"] > 0
    again = bill(program, CostModel(small))
    assert again.items() <= program.meta.items()
    assert again["cost"]["chips"] == 3
