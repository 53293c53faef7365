"""Programs of scripts, by their instructions alone: which versions of which weights each update depends on.

The checker reads who reads and writes what, and knows nothing of the compiler; the script says what is expected.
"""

import numpy as np
import pytest
from scripted import BATCH, critic, gan, node, squares, with_features

import mgc
from mgc.compiler import compile_tools, pass_registry
from mgc.dump import read_stage, write_stage
from mgc.isa.instructions import Update, WriteCells
from mgc.isa.verify_schedule import faults_of
from mgc.passes.registry import parse_passes

PHASES = ["generator=loss_g", "discriminator=loss_d"]


def dependencies(program):
    """{(parameter, its version): the versions {(parameter, version)} that its next one depends on}, of an iteration."""
    (part,) = (program.part(e.name) for e in program.entries if e.kind == "train")
    homes = {}
    for state in part.states:
        for piece in state.pieces:
            root = part.root(piece.buffer) if piece.buffer >= 0 else -1
            homes[piece.group, root] = state.name if state.kind == "parameter" else ""
    version, found, behind = dict.fromkeys(homes, 0), {}, {}
    for i in part.instructions:
        if isinstance(i, WriteCells):
            continue
        places = [(g, -1) for g in i.reads_groups()] + [(-1, part.root(b)) for b in i.reads()]
        read = {(homes[p], version[p]) for p in places if homes.get(p)}
        read |= {v for p in places if p not in homes for v in behind.get(p, ())}
        if isinstance(i, Update):
            home = (i.group, -1) if i.group >= 0 else (-1, part.root(i.parameter))
            found.setdefault((homes[home], version[home]), set()).update(read - {(homes[home], version[home])})
            version[home] += 1
        for b in i.writes():
            behind.setdefault((-1, part.root(b)), set()).update(read)
    return found


def compiled(proto, phases=PHASES, **options):
    program = mgc.compile(proto, phases=phases, optimizer="adam", batch=BATCH, **options)
    assert faults_of(program) == []
    return program


CRITIC = ("discriminator.a", "discriminator.b")


def remade(program):
    """Whether the discriminator's step sees samples of the updated generator."""
    found = dependencies(program)
    seen = {v for name in CRITIC for n, v in found[name, 0] if n == "generator.w"}
    assert len(seen) == 1
    return seen == {1}


def test_samples_that_are_made_again_are_found():
    assert not remade(compiled(gan(), once=["fake"]))
    assert remade(compiled(gan()))
    assert not remade(compiled(gan(), dataflow="shared"))


@pytest.mark.parametrize("flow", ["sequential", "parallel", "cyclic"])
def test_versions_hold_where_groups_overlap(flow):
    """G, D, then both: each reads what those before it left, the samples of the first phase excepted."""
    proto = gan(nodes=squares("again", "zero", "loss_info"), outputs={"loss_info": []})
    groups = {"info": ["generator.*", "discriminator.b"]}
    program = compiled(proto, [*PHASES, "info=loss_info"], groups=groups, once=["fake"], dataflow=flow)
    found = dependencies(program)
    # the third phase reads samples that are a constant: it does not reach the generator
    assert set(found) == {("generator.w", 0), ("discriminator.a", 0), ("discriminator.b", 0), ("discriminator.b", 1)}
    assert found["generator.w", 0] == {("discriminator.a", 0), ("discriminator.b", 0)}
    assert found["discriminator.b", 0] == {("generator.w", 0), ("discriminator.a", 0)}
    assert found["discriminator.b", 1] == {("generator.w", 0), ("discriminator.a", 1)}


def test_a_detach_that_is_dropped_is_found():
    """The discriminator compares with features of its own that are detached: their weights stand still."""

    phases = ["generator=loss_g", "discriminator=loss_near"]
    updated = {name for name, _ in dependencies(compiled(with_features(True), phases, once=["fake"]))}
    assert updated == {"generator.w", *CRITIC}
    dropped = {name for name, _ in dependencies(compiled(with_features(False), phases, once=["fake"]))}
    assert dropped == {*updated, "discriminator.e"}
    stopped = compiled(with_features(False), phases, once=["fake"], stop_gradient=["target"])
    assert {name for name, _ in dependencies(stopped)} == updated


def test_what_is_carried_depends_on_the_versions_that_phases_read():
    """BEGAN's balance is no reason to run a network again: no weight is read after its update."""
    more = [
        *critic("x", "twice"),
        node("Sub", "loss_real loss_fake", "gap"),
        node("Add", "k gap", "k_next"),
    ]
    proto = gan(nodes=more, inputs={"k": []}, outputs={"k_next": []})
    program = compiled(proto, once=["fake"], carry=["k=k_next"])
    (part,) = (program.part(e.name) for e in program.entries if e.kind == "train")
    updates = {i.group: i.id for i in part.instructions if isinstance(i, Update) and i.group >= 0}
    late = [i for i in part.instructions for g in i.reads_groups() if i.id > updates.get(g, i.id)]
    assert not late


def test_stages_of_a_script_are_text(tmp_path):
    """Every stage parses back, and a pass goes on from one to the next byte for byte."""
    proto = gan(nodes=[node("Add", "k loss_fake", "k_next")], inputs={"k": []}, outputs={"k_next": []})
    phases = [*PHASES, "generator=loss_fake,from=3"]
    options = {"once": ["fake"], "carry": ["k=k_next"], "penalty": ["loss_d:real:x"], "optimizer": "adam"}
    mgc.compile(proto, phases=phases, batch=BATCH, dump_dir=tmp_path, **options)
    for stage, name, after in (("02-compose", "fuse-loss", "03-fuse-loss"), ("03-fuse-loss", "differentiate", "04-")):
        state, _ = read_stage(tmp_path / f"{stage}.ir", compile_tools())
        (ran,) = parse_passes(name, pass_registry())
        write_stage(ran.run(state), tmp_path / "again.ir", name, ())
        (expected,) = tmp_path.glob(f"{after}*.ir")
        found = [text.read_text().partition("module")[2] for text in (tmp_path / "again.ir", expected)]
        assert found[0] == found[1]


def test_writes_of_a_warm_up_are_not_counted():
    """An iteration after it counts what it would alone; cells that the warm-up left are what it starts from."""
    program = compiled(gan(), ["generator=loss_g", *(f"{phase},from=2" for phase in PHASES)])
    rng = np.random.default_rng(3)
    feeds = {port.name: rng.standard_normal(port.shape).astype(np.float32) for port in program.inputs}
    simulator = mgc.Simulator(program, count_writes=True)
    states = [simulator.states()]
    for _ in range(2):
        simulator.run_iteration(feeds)
        states.append(simulator.states())
    assert not np.array_equal(states[0]["generator.w"], states[1]["generator.w"])
    counts = simulator.cell_writes()
    assert counts["runs"] == counts["cells"] == counts["changed"] == counts["most_changes"] == 0
    simulator.run_iteration(feeds)
    alone = mgc.Simulator(program, count_writes=True)
    alone.load_states(states[-1])
    alone.run_iteration(feeds)
    assert simulator.cell_writes() == alone.cell_writes()
    assert 0 < alone.cell_writes()["changed"] <= alone.cell_writes()["cells"]
