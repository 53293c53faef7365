"""Weights that take turns on crossbars: the choice of turns, networks larger than the chip, the verifier."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
from cells import assert_counted, by_run, run
from families import finished
from hypothesis import given
from hypothesis import strategies as st

import mgc
from benchmarks import networks
from benchmarks.families import FAMILIES, Layers
from mgc.isa.error import ProgramError
from mgc.isa.instructions import Mvm, Rewrite, Update, WriteCells
from mgc.isa.verify_schedule import faults_of
from mgc.passes.mapping.allocate import Demand, Rest
from mgc.passes.mapping.multiplex import STAYS, turns_of, turns_with_replicas
from mgc.passes.mapping.partition import CapacityError
from mgc.report.views.summary import headline
from mgc.sim import draw_inputs
from mgc.sim.engine import Numerics

SMALL = {"structure.tiles_per_chip": 1, "structure.macros_per_tile": 3, "structure.crossbars_per_macro": 4}


def network(seed: int, width: int = 24, depth: int = 3):
    """A residual network of a few convolutions and a transposed one."""
    b = Layers(seed)
    x = b.node("Relu", b.conv2d("x", 3, width))
    for _ in range(depth):
        x = b.node("Add", x, b.conv2d(b.node("Relu", b.conv2d(x, width, width)), width, width, gain=0.5))
    w = b.drawn(width, 3, 4, 4, fan_in=4 * width, gain=1.0)
    return finished(b, b.node("ConvTranspose", x, w, strides=[2, 2], pads=[1] * 4), {"x": ["N", 3, 6, 6]})


@given(st.lists(st.integers(1, 40), min_size=1, max_size=14), st.integers(1, 120))
def test_turns_fit_and_write_no_more_than_all(sizes, capacity):
    turns = turns_of(sizes, capacity)
    if turns is None:
        assert max(sizes) > capacity
        return
    staying = sum(s for s, t in zip(sizes, turns, strict=True) if t == STAYS)
    for turn in set(turns) - {STAYS}:
        assert staying + sum(s for s, t in zip(sizes, turns, strict=True) if t == turn) <= capacity
    assert (sum(sizes) <= capacity) == (set(turns) == {STAYS})
    order = [t for t in turns if t != STAYS]
    assert order == sorted(order)


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 500), st.integers(0, 3)), min_size=1, max_size=8),
    st.integers(1, 90),
    st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=30),
    st.sampled_from(["time", "energy", "edp"]),
)
def test_replicas_of_a_turn_fit_beside_what_stays(groups, capacity, drawn, objective):
    demands = [Demand(layer, size, windows, 10, written=1e-9) for size, windows, layer in groups]
    sizes = [d.crossbars for d in demands]
    if max(sizes) > capacity or sum(sizes) <= capacity or turns_of(sizes, capacity) is None:
        return
    uses = [(k % len(groups), changes) for k, changes in drawn]
    write = (100, 1e-9)
    turns, replicas = turns_with_replicas(demands, capacity, uses, objective, Rest(joules=1e-6), write)
    held = {t: sum(s * r for s, r, own in zip(sizes, replicas, turns, strict=True) if own == t) for t in set(turns)}
    staying = held.pop(STAYS, 0)
    assert min(replicas) >= 1
    assert all(staying + size <= capacity for size in held.values())


def test_one_small_group_too_many_leaves_the_large_ones_alone():
    assert turns_of([8, 8, 1, 1, 1], 18) == (STAYS, STAYS, STAYS, 0, 1)
    assert turns_of([9], 8) is None


@pytest.mark.parametrize(("seed", "batch"), [(0, 1), (3, 2), (8, 3)])
def test_a_network_larger_than_the_chip_computes_the_same(seed, batch):
    model = network(seed)
    # the same samples for both: one at a time, and a batch at a time
    seen = {"x": np.random.default_rng(seed).standard_normal((12, 3, 6, 6)).astype(np.float32)}
    whole = mgc.compile(model, calibrate="minmax", calibration=seen)
    turned = mgc.compile(model, calibrate="minmax", calibration=seen, batch=batch, overrides=SMALL)
    rewriting = headline(turned)["rewriting"]
    assert headline(whole)["rewriting"] is None
    assert headline(turned)["crossbars"]["used"] <= 12 < rewriting["crossbars_needed"]
    feeds = draw_inputs(whole, batch, seed)
    for numerics in ("quantized", "float"):
        wanted = mgc.Simulator(whole, numerics=numerics).run(feeds)  # type: ignore[arg-type]
        found = mgc.Simulator(turned, numerics=numerics).run(feeds)  # type: ignore[arg-type]
        reference = mgc.Simulator(turned, "reference", numerics).run(feeds)  # type: ignore[arg-type]
        for name in wanted:
            if numerics == "quantized":
                np.testing.assert_array_equal(found[name], wanted[name])
                np.testing.assert_array_equal(reference[name], wanted[name])
            else:
                np.testing.assert_allclose(found[name], wanted[name], atol=1e-4)


@pytest.fixture(scope="module")
def turned():
    return mgc.compile(network(1), calibrate="minmax", overrides=SMALL)


def test_what_rewriting_costs_is_in_the_bill(turned, tmp_path):
    rewriting, cost = headline(turned)["rewriting"], turned.meta["cost"]
    writes = [i for i in turned.instructions if isinstance(i, Rewrite)]
    cells = sum(turned.groups[i.group].cells for i in writes)
    cell = turned.target["cell"]
    assert turned.meta["energy"]["write"] == pytest.approx(cells * cell["write_energy_pj"] * 1e-12)
    assert rewriting["energy_j"] > turned.meta["energy"]["write"]
    weights = sum(g.matrices * g.rows * g.cols for g in (turned.groups[i.group] for i in writes))
    assert rewriting["offchip_bytes"] == weights
    row = cell["row_write_ns"] / turned.clock_ns
    assert all(i.duration >= row * min(turned.groups[i.group].rows, 128) for i in writes)
    times: dict[int, int] = {}
    for i in writes:
        for c in turned.groups[i.group].crossbars:
            times[c] = times.get(c, 0) + 1
    assert rewriting["writes_per_cell"] == cost["endurance"]["most_writes_per_cell"] == max(times.values())
    assert rewriting["runs"] == cell["endurance_writes"] / max(times.values())
    turned.save(tmp_path / "p.mgc")
    assert headline(mgc.Program.load(tmp_path / "p.mgc"))["rewriting"] == rewriting


def _overlapping(program):
    """Two groups with a common crossbar, the one that is rewritten first and the other."""
    writes = [i for i in program.instructions if isinstance(i, Rewrite)]
    for n, later in enumerate(writes):
        for earlier in writes[:n]:
            own = (set(program.groups[i.group].crossbars) for i in (earlier, later))
            if set.intersection(*own):
                return earlier, later
    raise AssertionError("no groups take turns")


def changed(program, instruction):
    table = tuple(instruction if i.id == instruction.id else i for i in program.instructions)
    return replace(program, instructions=table)


def test_contents_of_a_crossbar_are_kept_until_they_are_read(turned):
    assert not list(faults_of(turned))
    _, later = _overlapping(turned)
    early = changed(turned, replace(later, after=()))
    with pytest.raises(ProgramError, match="cells may hold something else"):
        early.verify()
    assert any("cells may hold something else" in f for f in faults_of(early))


def test_a_read_waits_for_its_rewrite(turned):
    _, later = _overlapping(turned)
    read = next(i for i in turned.instructions if isinstance(i, Mvm) and i.group == later.group)
    with pytest.raises(ProgramError):
        changed(turned, replace(read, after=tuple(a for a in read.after if a != later.id))).verify()


def test_what_takes_turns_is_not_programmed(turned):
    earlier, _ = _overlapping(turned)
    as_program = WriteCells(earlier.id, earlier.unit, 0, (), (), earlier.source, group=earlier.group)
    with pytest.raises(ProgramError, match="come first"):
        changed(turned, as_program).verify()


BATCH = 4


def gan(width: int = 16):
    """A generator and a discriminator of convolutions, of images [1, 8, 8]."""
    g = Layers(1)
    x = g.node("Relu", g.conv2d("z", 4, width))
    x = g.node("Relu", g.conv2d(x, width, width))
    w = g.drawn(width, 1, 4, 4, fan_in=4 * width, gain=1.0)
    generator = finished(
        g, g.node("Tanh", g.node("ConvTranspose", x, w, strides=[2, 2], pads=[1] * 4)), {"z": ["N", 4, 4, 4]}
    )
    d = Layers(2)
    x = d.node("LeakyRelu", d.conv2d("x", 1, width))
    x = d.node("LeakyRelu", d.conv2d(x, width, width))
    x = d.node("Flatten", d.conv2d(x, width, 4))
    score = d.node("Sigmoid", d.node("MatMul", x, d.drawn(256, 1, fan_in=256)))
    return generator, finished(d, score, {"x": ["N", 1, 8, 8]})


def trained(crossbars: int, **options):
    generator, discriminator = gan()
    over = {"structure.tiles_per_chip": 1, "structure.macros_per_tile": 1, "structure.crossbars_per_macro": crossbars}
    fixed = {"discriminator": discriminator, "loss": "bce", "optimizer": "adam", "batch": BATCH}
    return mgc.compile_training(generator, **{**fixed, **options}, overrides=over)


@pytest.fixture(scope="module")
def turned_training():
    return trained(14)


def batches(program, count: int):
    rng = np.random.default_rng(0)
    return [
        {p.name: (0.5 * rng.standard_normal(p.shape)).astype(np.float32) for p in program.inputs} for _ in range(count)
    ]


@pytest.mark.parametrize("dataflow", ["sequential", "parallel", "cyclic", "shared"])
def test_weights_that_take_turns_train_to_the_same_bits(dataflow):
    whole, turned = trained(20, dataflow=dataflow), trained(14, dataflow=dataflow)
    assert whole.meta["rewriting"] is None
    assert turned.meta["rewriting"]["crossbars_needed"] > 14
    assert [e.schedule.split for e in whole.entries] == [e.schedule.split for e in turned.entries]
    simulators = [
        mgc.Simulator(whole, numerics="quantized"),
        mgc.Simulator(turned, numerics="quantized"),
        mgc.Simulator(turned, "reference", "quantized"),
    ]
    for batch in batches(whole, 3):
        losses = [s.run_iteration(batch) for s in simulators]
        assert losses[0] == losses[1] == losses[2]
    states = [s.states() for s in simulators]
    for name, value in states[0].items():
        np.testing.assert_array_equal(states[1][name], value, err_msg=name)
        np.testing.assert_array_equal(states[2][name], value, err_msg=name)


def test_an_update_of_weights_off_chip_writes_no_cells(turned_training):
    program = turned_training
    away = [
        i for i in program.instructions if isinstance(i, Update) and i.group >= 0 and program.groups[i.group].off_chip
    ]
    assert away
    for i in away:
        group = program.groups[i.group]
        assert i.fetches(program) == 2 * group.weight_bytes == 4 * group.matrices * group.rows * group.cols
    cells = sum(
        program.groups[i.group].replicas * program.groups[i.group].cells
        for e in program.iteration
        for i in program.instructions[e.first : e.stop]
        if isinstance(i, Rewrite) or (isinstance(i, Update) and i.group >= 0 and not program.groups[i.group].off_chip)
    )
    assert program.meta["energy"]["write"] == pytest.approx(cells * program.target["cell"]["write_energy_pj"] * 1e-12)


@pytest.mark.parametrize("numerics", ["quantized", "float", "device"])
def test_states_of_weights_off_chip_are_read_and_restored(turned_training, numerics):
    first, second = (mgc.Simulator(turned_training, numerics=numerics, seed=3) for _ in range(2))
    one, two = batches(turned_training, 2)
    first.run_iteration(one)
    second.load_states(first.states())
    assert first.run_iteration(two) == second.run_iteration(two)
    for name, value in first.states().items():
        np.testing.assert_array_equal(second.states()[name], value, err_msg=name)
    assert 0 < first.exact_columns <= 1


def test_cells_that_are_written_in_every_run_have_errors_of_their_own(turned_training):
    first, second = (mgc.Simulator(turned_training, numerics="device", seed=s) for s in (1, 2))
    (batch,) = batches(turned_training, 1)
    assert first.run_iteration(batch) != second.run_iteration(batch)


def test_weights_that_changed_are_written_before_they_are_read(turned_training):
    """Without the second REWRITE of a group its readers see cells that an UPDATE, or another group, made stale."""
    program, seen = turned_training, set[int]()
    entry = program.iteration[0]
    again = []
    for i in program.instructions[entry.first : entry.stop]:
        if isinstance(i, Rewrite):
            if i.group in seen:
                again.append(i)
            seen.add(i.group)
    assert again
    for i in again:
        other = next(g.id for g in program.groups if g.off_chip and g.id != i.group)
        with pytest.raises(ProgramError):
            changed(program, replace(i, group=other)).verify()


def test_a_group_larger_than_the_chip_is_refused():
    tiny = {**SMALL, "structure.macros_per_tile": 1, "structure.crossbars_per_macro": 1}
    with pytest.raises(CapacityError, match="crossbars"):
        mgc.compile(network(1, width=64), calibrate="minmax", overrides=tiny)


def test_writes_over_each_other_are_counted_by_cells(turned_training):
    feeds = batches(turned_training, 2)
    counts, states = run(turned_training, feeds)
    assert any(row["mnemonic"] == "rewrite" for row in counts["instructions"])
    assert_counted(turned_training, counts, states)
    assert run(turned_training, feeds, "reference")[0] == counts
    on_devices = [run(turned_training, feeds, engine, "device")[0] for engine in ("fast", "reference")]
    assert on_devices[0] == on_devices[1]
    per_run = turned_training.meta["energy"]["write"] / (turned_training.target["cell"]["write_energy_pj"] * 1e-12)
    assert counts["cells"] == pytest.approx(2 * per_run)
    assert counts["most_changes"] <= 2 * turned_training.meta["cost"]["endurance"]["most_writes_per_cell"]


def test_inference_in_turns_writes_the_same_cells_in_every_run(turned):
    (port,) = turned.inputs
    x = np.random.default_rng(0).standard_normal(port.shape).astype(np.float32)
    counts = {}
    for runs in (1, 2, 3):
        counts[runs], states = run(turned, [{port.name: x}] * runs, step=by_run)
        assert_counted(turned, counts[runs], states)
        assert run(turned, [{port.name: x}] * runs, "reference", step=by_run)[0] == counts[runs]
    assert counts[3]["changed"] - counts[2]["changed"] == counts[2]["changed"] - counts[1]["changed"] > 0
    assert run(turned, [{port.name: np.concatenate([x] * 3)}], step=by_run)[0] == counts[3]


@pytest.mark.slow
def test_an_esrgan_of_16_million_weights_runs_on_2000_crossbars():
    model = FAMILIES["rrdb-23"]()
    program = mgc.compile(model, overrides={"structure.tiles_per_chip": 20})
    said = headline(program)
    assert said["crossbars"]["available"] == 1920 < said["rewriting"]["crossbars_needed"]
    assert 0 < said["rewriting"]["energy_j"] < said["energy_j"]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (port,) = program.inputs
    feeds = {port.name: np.random.default_rng(0).standard_normal(port.shape).astype(np.float32)}
    wanted = np.asarray(session.run(None, feeds)[0])
    limits: dict[Numerics, int] = {"float": 110, "quantized": 40}
    for numerics, least in limits.items():
        (found,) = mgc.Simulator(program, numerics=numerics).run(feeds).values()
        error = float(((found - wanted) ** 2).mean())
        print(f"{numerics}: {10 * np.log10(np.ptp(wanted) ** 2 / error):.1f} dB; {said['rewriting']}")
        assert 10 * np.log10(np.ptp(wanted) ** 2 / error) > least


@pytest.mark.slow
def test_the_wide_dcgan_trains_on_one_chip_as_on_two():
    """d = 128, whose weights one chip does not hold."""
    pair = [make(128, colours=1) for make in (networks.generator, networks.discriminator)]
    programs = [
        mgc.compile_training(
            pair[0],
            discriminator=pair[1],
            loss="bce",
            optimizer="adam",
            lr=2e-4,
            betas=(0.5, 0.999),
            batch=8,
            overrides={"structure.chips": chips},
        )
        for chips in (1, 2)
    ]
    assert headline(programs[0])["rewriting"] is not None
    assert headline(programs[1])["rewriting"] is None
    (feeds,) = batches(programs[0], 1)

    def losses(program, numerics):
        found = mgc.Simulator(program, numerics=numerics).run_iteration(feeds)
        return {name: float(found[name]) for name in ("loss_d", "loss_g")}

    one, two = (losses(p, "float") for p in programs)
    print(one, two, headline(programs[0])["rewriting"])
    assert one == pytest.approx(two, rel=1e-3)
    assert losses(programs[0], "quantized") == pytest.approx(one, rel=0.2)
