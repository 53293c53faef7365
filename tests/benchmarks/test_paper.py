"""The paper's page: baselines with their marks, changed targets, ratios, tables."""

import json
import math
from functools import cache
from math import prod

import pytest

from benchmarks.paper import cases, loss
from benchmarks.paper.__main__ import measure
from benchmarks.paper.baselines import BASELINES, MARKS, load_baselines
from benchmarks.paper.cases import (
    WORKLOADS,
    Result,
    Workload,
    billed,
    infer,
    on_fewest_chips,
    targets,
    train,
    with_keys,
)
from benchmarks.paper.loss import loss_results
from benchmarks.paper.page import Results, number, page, table
from benchmarks.paper.peak import PUBLISHED_MACS_PER_S, peak_macs_per_s, vgg_result
from benchmarks.paper.sensitivity import VARIATIONS
from mgc.isa.instructions import Diff
from mgc.targets.description import TargetError
from mgc.targets.loader import load_target

TINY = Workload("dcgan64", 2, 1, 2)
pytestmark = pytest.mark.xdist_group("paper")  # its results are measured once


@pytest.fixture(scope="module", autouse=True)
def compiled_once():
    """The same workload on the same target is one program, whoever asks for it: nobody changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cases, "trained", cache(cases.trained))
        patch.setattr(loss, "loss_program", cache(loss.loss_program))
        yield


def test_every_figure_has_a_mark_and_a_source():
    found = load_baselines()
    rows = (*found.rates, *found.claims, *found.relatives)
    assert all(row.mark in MARKS and row.source for row in rows)
    assert all(p.power_mark in MARKS and p.power_source for p in found.platforms)
    assert {r.key for r in found.rates} == {w.key for w in WORKLOADS}


def test_what_the_papers_say_of_two_baselines_gives_one_beside_the_other():
    found = load_baselines()
    for relative, work in zip(found.relatives, ("Liu & Liu 2018 (this paper)", "LrGAN, TC 2020"), strict=True):
        gpu, fpga = (next(c for c in found.claims if (c.work, c.baseline) == (work, b)) for b in ("GPU", "FPGA"))
        assert relative.slower_than_gpu == pytest.approx(fpga.speed / gpu.speed, rel=0.01)
        assert relative.less_energy_than_gpu == pytest.approx(gpu.energy / fpga.energy, rel=0.01)


def test_a_gpu_at_full_power_spends_what_the_sources_derive():
    found = load_baselines()
    joules = {r.key: found.joules_per_image(r) for r in found.rates if r.platform == "GTX 1080 Ti"}
    assert joules["dcgan64"] == pytest.approx(0.279, abs=0.001)
    assert joules["dcgan128"] == pytest.approx(0.825, abs=0.001)


def test_a_mark_that_is_none_and_a_rate_without_power_are_refused(tmp_path):
    text = BASELINES.read_text()
    wrong = tmp_path / "b.toml"
    wrong.write_text(text.replace('mark = "derived"', 'mark = "felt"', 1))
    with pytest.raises(ValueError, match="not felt"):
        load_baselines(wrong)
    wrong.write_text(text.replace('power_of = "Tesla P100"', 'power_of = "Tesla P40"'))
    with pytest.raises(ValueError, match="nobody gives the power of Tesla P100"):
        load_baselines(wrong)


def test_every_variation_is_a_valid_target_and_changes_it():
    target = load_target("liu2018")
    for variation in VARIATIONS:
        changed = with_keys(target, variation.change(target))
        assert changed != target, variation.what
        tables = {key.split(".")[-1] for key in variation.change(target)}
        assert not variation.energy or all("energy" in key or "static" in key for key in tables)
    with pytest.raises(TargetError):
        with_keys(target, {"structure.chips": 0})


def test_results_are_those_of_the_program_and_chips_are_the_fewest():
    target = with_keys(load_target("liu2018"), {"structure.tiles_per_chip": 1, "structure.macros_per_tile": 2})
    assert cases.trained(TINY, target)[0].meta["rewriting"] is not None
    found = on_fewest_chips(TINY, target)
    assert found.chips > 1
    assert found.needed <= found.crossbars <= 16 * found.chips
    assert found.needed > 16 * (found.chips - 1)
    assert found.per_chip == found.images_per_s / found.chips
    assert found.joules == pytest.approx(sum(found.components.values()) / 2)
    assert 0 < found.busiest_link <= 1
    assert 0 < found.link < 1
    single = train(TINY, load_target("liu2018"))
    assert (single.link, single.busiest_link, single.chips) == (0, 0, 1)
    assert single.images_per_s > found.images_per_s


def test_a_change_of_energies_alone_needs_no_compiling():
    target = load_target("liu2018")
    program, _ = cases.trained(TINY, target)
    costly = with_keys(target, {"cell.write_energy_pj": 800.0})
    told, anew = billed(TINY, costly, program), train(TINY, costly)
    assert told.joules == pytest.approx(anew.joules)
    assert told.components == pytest.approx(anew.components)
    assert told.images_per_s == anew.images_per_s
    assert told.components["write"] == pytest.approx(10 * train(TINY, target).components["write"])


def test_two_updates_of_the_generator_count_the_batch_once():
    once = train(TINY, load_target("isaac"))
    twice = train(Workload("dcgan64rgb", 2, 1, 2, generator_steps=2), load_target("isaac"))
    assert once.images_per_s / 2 < twice.images_per_s < once.images_per_s
    assert once.joules < twice.joules < 2 * once.joules


@pytest.fixture(scope="module")
def results() -> Results:
    chips = targets()
    trained = [train(TINY, chips[name]) for name in ("liu2018", "isaac")]
    generated = infer(TINY, chips["isaac"])
    return Results(
        tuple(trained),
        (generated,),
        (trained[0],),
        (("sequential", trained[0]),),
        (("as the target says", "", trained[1]),),
        {w.key: (1e8, 1e8) for w in WORKLOADS},
        tuple(loss_results(TINY, chips["liu2018"], ["hinge"])),
        (vgg_result(chips["isaac"], batch=4, size=32),),
    )


def test_the_page_divides_what_it_shows(results):
    baselines = load_baselines()
    text = page(results, baselines)
    rate = baselines.of("dcgan64")[0]
    for r in results.training:
        row = next(line for line in text.splitlines() if line.startswith(f"| {r.target} | {r.chips} | {r.needed:,} "))
        cells = [c.strip() for c in row.strip("|").split("|")]
        assert cells[3] == number(r.images_per_s)
        assert cells[5] == number(r.images_per_s / rate.images_per_s)
        assert cells[6] == number(250 / rate.images_per_s / r.joules)
    for claim in ("| 2.8 | 6.1 |", "| 5.5 | 1.4 |", "| 240 | 94 |", "| 21.4 | 13.7 |"):
        assert claim in text
    assert all(f"| {mark} |" in text for mark in ("measured", "published", "derived", "assumed", "modelled"))
    assert len({line.count("|") for line in text.splitlines() if line.startswith("| isaac | 1 |")}) <= 2


def test_the_diff_block_is_weighed_against_the_vector_unit(results):
    text = page(results, load_baselines())
    target = load_target("liu2018")
    for r in results.losses:
        with_block, without = (loss.loss_program(TINY, target, r.loss, blocks=blocks) for blocks in (True, False))
        assert not any(isinstance(i, Diff) for i in without.instructions)
        blocks = [i for i in with_block.instructions if isinstance(i, Diff)]
        (entry,) = with_block.iteration
        assert r.busy == sum(i.duration * (entry.schedule.starts[i.id - entry.first] >= 0).sum() for i in blocks) > 0
        scores = sum(prod(with_block.operand(i.scores[0].space, i.scores[0].index).shape) for i in blocks)
        assert r.spent == pytest.approx(scores * target.diff_block.score_energy_pj * 1e-12)
        assert without.meta["energy"]["diff"] == 0
        assert (r.cycles, r.vector_cycles) == (with_block.iteration_cycles, without.iteration_cycles)
        assert f"| `{r.loss}` | {r.busy:,} |" in text


def test_a_chip_lasts_as_long_as_its_most_written_cell(results):
    text = page(results, load_baselines())
    for r in results.training:
        assert r.iterations == load_target(r.target).cell.endurance_writes  # each weight is updated once
        days = r.iterations * r.batch / r.images_per_s / 86400
        assert f"| {r.target} | {r.chips} | {number(r.iterations)} | {days:,.1f} |" in text


def test_the_peak_is_the_published_one_and_no_schedule_beats_it(results):
    (small,) = results.peak
    isaac = load_target("isaac")
    assert small.peak_macs_per_s == peak_macs_per_s(isaac) == pytest.approx(PUBLISHED_MACS_PER_S, rel=0.02)
    assert f"| {number(small.peak_macs_per_s / small.macs)} | {100 * small.of_peak:.1f} % |" in page(
        results, load_baselines()
    )
    whole = vgg_result(isaac)
    assert whole.of_peak >= 0.75
    assert whole.macs == pytest.approx(7.485e9, rel=0.001)
    for found in (small, whole):
        assert 0 < found.of_peak < 1


def test_results_survive_a_file(results):
    assert Results.from_json_dict(json.loads(json.dumps(results.to_json_dict()))) == results
    assert measure((), results).training == results.training


def test_numbers_and_tables():
    assert [number(x) for x in (0.00123, 2.8, 21.42, 240.0, 12345.6)] == ["0.00123", "2.8", "21.4", "240", "12,346"]
    assert table(("a", "b"), [(1, "x")]) == "| a | b |\n|---|---|\n| 1 | x |\n"
    assert math.isclose(Result("w", "training", "t", 2, 1, 1, 10.0, 1.0, "OPTIMAL", 0, 0, 0, 0, {}, 0, 0).per_chip, 5.0)
