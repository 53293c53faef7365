"""Training on several chips: the same results, values sent over links, and who needs more chips is told how many."""

import numpy as np
import pytest
from compiled import composed_program, follow
from version_checker import version_faults

import mgc
from benchmarks.networks import discriminator, generator
from mgc.isa.dataflow import writers_of
from mgc.isa.verify_schedule import faults_of
from mgc.sim import replay
from mgc.targets.loader import load_target


def chips(count, macros=4):
    """Chips of 16x16 crossbars, 16 of them in each of two tiles' macros: too few for a network each."""
    target = load_target("liu2018")
    structure = {"chips": count, "tiles_per_chip": 2, "macros_per_tile": macros, "crossbars_per_macro": 16}
    return target.model_copy(
        update={
            "crossbar": target.crossbar.model_copy(update={"rows": 16, "cols": 16}),
            "structure": target.structure.model_copy(update=structure),
        }
    )


@pytest.mark.parametrize(
    ("case", "count"),
    [(("mlp", "ts", "bce", "adam"), 3), (("mlp", "ts", "wgan-gp", "adam"), 4), (("dcgan", "ts", "bce", "adam"), 4)],
    ids=str,
)
def test_training_on_several_chips_follows_pytorch(case, count):
    # so small that the weights need several
    target = chips(count, macros=1 if case[0] == "mlp" else 12)
    program, _, data, expected, names = composed_program(*case, target=target)
    used = {c // target.structure.crossbars_per_chip for g in program.groups for c in g.crossbars}
    assert len(used) > 1
    links = {u.id: u.name for u in program.units if u.kind == "link" and u.name.startswith("chip")}
    sends = [i for i in program.instructions if i.unit in links]
    assert sends
    assert {i.mnemonic for i in sends} == {"move"}
    assert program.meta["energy"]["link"] > 0
    follow(program, data, expected, names)
    for entry in program.entries:
        part = program.part(entry.name)
        assert replay(part).makespan == part.entry.schedule.makespan
        assert not faults_of(part)
        assert version_faults(part) == []
        assert not _strangers(part, target.structure.tiles_per_chip, links)


def test_a_product_of_a_whole_batch_drains_into_parts():
    """The images come over a link at once, so their product is not cut, and what it drains into is held whole."""
    one = load_target("liu2018")
    small = one.replace({"chips": 4, "tiles_per_chip": 1, "macros_per_tile": 2})
    rng = np.random.default_rng(4)
    shapes = {"image": (2, 1, 64, 64), "z": (2, 100, 1, 1)}
    batch = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    losses = {"fast": [], "reference": []}
    for target in (one, small):
        program = mgc.compile(
            generator(2, colours=1),
            discriminator=discriminator(2, 1),
            loss="bce",
            optimizer="sgd",
            batch=2,
            objective="time",
            target=target,
        )
        for engine, found in losses.items():
            simulator = mgc.Simulator(program, numerics="float", engine=engine)
            found.append([list(simulator.run_iteration(batch).values()) for _ in range(2)])
    for found in losses.values():
        np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def _strangers(program, tiles_per_chip, links):
    """Instructions that read what was made on another chip, though no link brought it; the counter of steps is taken to
    lie with what an update changes.
    """
    chip = {i.id: program.units[i.unit].tile // tiles_per_chip for i in program.instructions}
    writers = writers_of(program)
    return [
        (i.id, w)
        for i in program.instructions
        for b in i.reads()
        for w in writers.get(program.root(b), [])
        if i.unit not in links
        and i.mnemonic != "update"
        and chip[i.id] >= 0 <= chip[w] != chip[i.id]
        and not program.buffers[b].persistent
    ]


def test_a_warning_says_how_many_chips_would_do():
    turned, *_ = composed_program("dcgan", "ts", "bce", "adam", target=chips(1))
    (advice,) = (w for w in turned.meta["warnings"] if "[structure] chips = " in w)
    needed = int(advice.split("[structure] chips = ")[1].split()[0])
    assert needed > 1
    program, *_ = composed_program("dcgan", "ts", "bce", "adam", target=chips(needed))
    assert program.meta["crossbars"]["used"] <= needed * 128
    assert program.meta["rewriting"] is None
    fewer, *_ = composed_program("dcgan", "ts", "bce", "adam", target=chips(needed - 1))
    assert fewer.meta["rewriting"]["crossbars_needed"] > (needed - 1) * 128
