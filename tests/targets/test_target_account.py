"""The rules of the account: what a value weighs, what training's instructions move, what a clip costs."""

from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
from checker import check, facts_of_program

import mgc
from mgc.compiler import compile_training
from mgc.isa.instructions import Mvm, MvmT, Outer, Update
from mgc.isa.memory import bytes_of, nbytes
from mgc.report.views import memory
from mgc.targets import CostModel, Target, load_target
from mgc.targets.codegen.account import Account

DATA = Path(__file__).parents[1] / "data" / "training"


STORED = {"vector.drain_lanes_per_tile": 0}
"""No lanes at the crossbars: sums are stored."""


@pytest.fixture(scope="module", params=["liu2018", "isaac", "puma", "pipelayer"])
def trained(request):
    options = {"discriminator": DATA / "mlp_D_ts.onnx", "loss": "bce", "target": request.param, "overrides": STORED}
    return compile_training(DATA / "mlp_G_ts.onnx", **options)


def account_of(program):
    return Account(program, CostModel(Target.from_json_dict(program.target)))


def windows(instruction, layout):
    return layout.shape[0] * prod(instruction.windows.count)


def test_codes_weigh_their_own_bytes_in_weight_gradients(trained):
    account = account_of(trained)
    wide = trained.target["crossbar"]["input_bits"] > 8
    found = [i for i in trained.instructions if isinstance(i, Outer)]
    assert found
    for i in found:
        codes = [trained.buffers[b] for b in (i.x, i.dy)]
        assert {np.dtype(b.dtype).itemsize for b in codes} == {1 + wide}
        matrices, rows, cols = trained.buffers[i.dst].shape
        read = windows(i, i.input) * matrices * (rows + cols) * (1 + wide)
        whole = sum(nbytes(trained.buffers[b], trained.target) for b in (i.x_scale, i.dy_scale, i.dst) if b >= 0)
        assert account.energy(i).edram == pytest.approx(account.cost.transfer_energy(read + whole, "edram").edram)


def test_transposed_reads_are_charged_codes_and_sums(trained):
    account = account_of(trained)
    found = [i for i in trained.instructions if isinstance(i, MvmT)]
    assert bool(found) == trained.target["training"]["transposed_read"]
    for i in found:
        group = trained.groups[i.group]
        code = np.dtype(trained.buffers[i.src].dtype).itemsize
        count = windows(i, i.output) * group.matrices
        moved = count * (group.cols * code + group.rows * trained.target["periphery"]["accumulator_bytes"])
        packing = {"weight_bits": 16, "plane_columns": group.arithmetic.plane_columns}
        occupancy = account.cost.occupancy(group.rows, group.cols, matrices=group.matrices, transposed=True, **packing)
        read = account.cost.mvm_energy(windows(i, i.output), occupancy, signed=i.signed)
        assert account.energy(i).edram == pytest.approx(read.edram + account.cost.transfer_energy(moved, "edram").edram)
        assert account.energy(i).adc == read.adc


def test_a_sum_weighs_what_the_target_says(trained):
    sums = [b for b in trained.buffers if b.kind == "acc"]
    assert sums
    assert {bytes_of(b, 1, trained.target) for b in sums} == {8}
    half = {**trained.target, "periphery": {**trained.target["periphery"], "accumulator_bytes": 4}}
    light = replace(trained, target=half)
    for b in trained.buffers:
        same = nbytes(b, trained.target)
        assert nbytes(b, half) == (same // 2 if b.kind == "acc" else same)
    account, lighter = account_of(trained), account_of(light)
    for i in trained.instructions:
        if isinstance(i, Mvm):
            group = trained.groups[i.group]
            saved = 4 * windows(i, i.input) * group.matrices * group.cols
            spent = account.energy(i).edram - lighter.energy(i).edram
            assert spent == pytest.approx(account.cost.transfer_energy(saved, "edram").edram)


def test_clipping_weights_costs_two_operations_a_weight_in_energy_as_in_time():
    phases = ["discriminator=loss_d,clip=0.01", "generator=loss_g"]
    program = compile_training(DATA / "step_mlp_wgan_ts.onnx", phases=phases, optimizer="rmsprop")
    account = account_of(program)
    updates = [i for i in program.instructions if isinstance(i, Update)]
    clipped = [i for i in updates if np.isfinite(i.hi)]
    assert clipped
    assert len(clipped) < len(updates)
    for i in updates:
        elements = prod(program.buffers[i.gradient].shape)
        work = {"multiply": 4, "simple": 3 + 2 * (i in clipped), "divide": 2}
        assert account.energy(i).vector == pytest.approx(account.cost.vector_energy(elements, work).vector)


def test_inference_counts_sums_and_codes_alike():
    """And what drains: a code for a sum, or a real that leaves the program, and the steps of the drain."""
    stored, drained = (mgc.compile(DATA / "mlp_G_ts.onnx", calibrate="minmax", overrides=o) for o in (STORED, {}))
    for program in (stored, drained):
        _check_inference(program)
    reads = [i for i in drained.instructions if isinstance(i, Mvm)]
    assert [[s.name for s in i.steps][-1] for i in reads] == ["quant", "tanh"]
    assert drained.meta["energy"]["edram"] < stored.meta["energy"]["edram"]
    assert drained.meta["energy"]["vector"] == pytest.approx(stored.meta["energy"]["vector"])


def _check_inference(program):
    account = account_of(program)
    for i in (i for i in program.instructions if isinstance(i, Mvm)):
        group = program.groups[i.group]
        written = bytes_of(program.buffers[i.writes()[0]], 1, program.target)
        moved = windows(i, i.input) * group.matrices * (group.rows + written * group.cols)
        registers = account.cost.mvm_energy(
            windows(i, i.input),
            account.cost.occupancy(group.rows, group.cols, matrices=group.matrices),
            signed=i.signed,
        )
        assert account.energy(i).edram == pytest.approx(
            registers.edram + account.cost.transfer_energy(moved, "edram").edram
        )


def test_lighter_sums_take_less_memory_and_no_more_time_as_the_verifier_counts_them():
    default = load_target("liu2018")
    default = default.replace(STORED)
    light = default.replace({"periphery.accumulator_bytes": 4})
    networks = {"discriminator": DATA / "dcgan_D_ts.onnx", "loss": "bce", "batch": 4, "dataflow": "sequential"}
    heavy, lighter = (compile_training(DATA / "dcgan_G_ts.onnx", target=t, **networks) for t in (default, light))
    assert not check(facts_of_program(lighter.part("discriminator and generator"), {}))
    assert lighter.iteration_cycles <= heavy.iteration_cycles
    assert lighter.meta["energy_j"] < heavy.meta["energy_j"]
    used = [{s["space"]: s["bytes"] for s in memory.facts(p)["spaces"]}["edram"] for p in (heavy, lighter)]
    assert used[1] < used[0]
