"""What phases claim, and the verifier that holds a program to it: each fault that is put in is found.

A fault of the compiler is a program that follows another script: it is compiled from that, and gets the claims of the
script that was meant, which come from the forward half alone.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import BATCH, critic, detach, gan, model, node, squares, with_features

import mgc
from mgc.ir.gradients import GRADIENTS
from mgc.ir.ops import Detach, Random
from mgc.isa.asm.parser import assemble
from mgc.isa.asm.printer import disassemble
from mgc.isa.claim import Slope
from mgc.isa.error import ProgramError
from mgc.isa.instructions import Mvm, MvmT, Vec
from mgc.isa.program import Program
from mgc.isa.verify_schedule import check_schedule, faults_of

G_FIRST = ["generator=loss_g", "discriminator=loss_d"]
INFO = {"phases": [*G_FIRST, "info=loss_info"], "groups": {"info": ["generator.*", "discriminator.b"]}}


def compiled(proto, phases=G_FIRST, **options):
    options = {"optimizer": "adam", "batch": BATCH, **options}
    program = mgc.compile(proto, phases=phases, **options)
    assert faults_of(program) == []
    return program


def meant(claims, program):
    """A program with the claims of another one, which keeps the same states."""
    names = [s.name for s in program.states]
    assert {s.name for s in claims.states} <= set(names)
    number = [names.index(s.name) for s in claims.states]
    rows = [
        replace(
            c,
            changes=tuple(number[s] for s in c.changes),
            reads=tuple((number[s], v) for s, v in c.reads),
            slopes=tuple(Slope(number[s.state], tuple(number[m] for m in s.made_of)) for s in c.slopes),
        )
        for c in claims.claims
    ]
    return replace(program, claims=tuple(rows))


def found(program, *words):
    faults = faults_of(program)
    assert any(all(w in f for w in words) for f in faults), faults
    with pytest.raises(ProgramError, match="breaks its own rules"):
        check_schedule(program)


def told(program, number=0):
    """{phase: ({state that it changes}, {(state, version)}, draws)} of an entry."""
    name = [s.name for s in program.states].__getitem__
    return {
        c.phase: (set(map(name, c.changes)), {(name(s), v) for s, v in c.reads}, c.draws)
        for c in program.claims
        if c.entry == number
    }


CRITIC = {"discriminator.a", "discriminator.b"}


def critic_at(version):
    return {(name, version) for name in CRITIC}


# -- what is claimed ---------------------------------------------------------------------------------------------------


def test_a_phase_reads_what_those_before_it_left_but_for_what_is_made_once():
    again = told(compiled(gan()))
    assert again["generator"] == ({"generator.w"}, {("generator.w", 0), *critic_at(0)}, ())
    assert again["discriminator"] == (CRITIC, {("generator.w", 1), *critic_at(0)}, ())
    once = told(compiled(gan(), once=["fake"]))
    assert once["discriminator"] == (CRITIC, {("generator.w", 0), *critic_at(0)}, ())
    shared = told(compiled(gan(), ["discriminator=loss_d", "generator=loss_g"], dataflow="shared"))
    assert shared["generator"] == ({"generator.w"}, {("generator.w", 0), *critic_at(0)}, ())


def overlapping(**options):
    proto = gan(nodes=squares("again", "zero", "loss_info"), outputs={"loss_info": []})
    return compiled(proto, **INFO, once=["fake"], **options)


@pytest.mark.parametrize("flow", ["sequential", "pipelined", "parallel", "cyclic"])
def test_overlapping_groups(flow):
    """The samples were made before: the third phase reads them, and does not reach the generator."""
    found = told(overlapping(dataflow=flow))
    assert found["info"] == ({"discriminator.b"}, {("generator.w", 0), *critic_at(1)}, ())


def balanced(**options):
    more = [node("Sub", "loss_real loss_fake", "gap"), node("Add", "k gap", "k_next")]
    proto = gan(nodes=more, inputs={"k": []}, outputs={"k_next": []})
    return compiled(proto, once=["fake"], carry=["k=k_next"], **options)


def test_what_is_carried_is_changed_at_the_end_by_what_the_phases_left():
    found = told(balanced())
    assert found[""] == ({"k"}, {("k", 0), ("generator.w", 0), *critic_at(0)}, ())


def test_a_step_of_several_and_a_later_loss_have_entries_with_claims():
    program = compiled(
        gan(), ["discriminator=loss_d,steps=3,clip=0.1", "generator=loss_g", "generator=loss_fake,from=2"]
    )
    assert [e.name for e in program.entries if e.kind == "train"] == [
        e.name for k, e in enumerate(program.entries) if told(program, k)
    ]


# -- file and text -----------------------------------------------------------------------------------------------------


def test_claims_go_through_file_and_text(tmp_path):
    program = masked(once=["fake"])
    assert any(c.draws for c in program.claims)
    program.save(tmp_path / "a.mgc")
    assert Program.load(tmp_path / "a.mgc").claims == program.claims
    assert assemble(disassemble(program), resolve=lambda _: program.tensors).claims == program.claims


@pytest.mark.parametrize("wrong", [-1, 1 << 40])
def test_claims_about_what_there_is_not(wrong):
    program = compiled(gan(), once=["fake"])
    claim = program.claims[0]
    for broken in (
        replace(claim, entry=wrong),
        replace(claim, changes=(wrong,)),
        replace(claim, reads=((wrong, 0),)),
        replace(claim, slopes=(Slope(wrong, ()),)),
        replace(claim, slopes=(Slope(0, (wrong,)),)),
        *([replace(claim, draws=(wrong,)), replace(claim, reads=((0, wrong),))] if wrong < 0 else []),
    ):
        with pytest.raises(ProgramError, match=r"claim 0 \(generator\)"):
            replace(program, claims=(broken, *program.claims[1:])).verify()


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flow", ["sequential", "parallel", "cyclic"])
def test_a_fake_that_is_remade_is_found(flow):
    once, again = compiled(gan(), once=["fake"], dataflow=flow), compiled(gan(), dataflow=flow)
    found(meant(once, again), "discriminator.a", "version 1 of generator.w")
    found(meant(again, once), "discriminator.a", "version 0 of generator.w")


def test_old_versions_where_new_ones_are_meant_are_found():
    order = ["discriminator=loss_d", "generator=loss_g"]
    new, old = compiled(gan(), order), compiled(gan(), order, dataflow="shared")
    found(meant(new, old), "generator.w", "version 0 of discriminator")
    found(meant(old, new), "generator.w", "version 1 of discriminator")


def test_a_fake_that_is_remade_for_overlapping_groups_is_found():
    once = overlapping()
    again = compiled(gan(nodes=squares("again", "zero", "loss_info"), outputs={"loss_info": []}), **INFO)
    found(meant(once, again), "in phase discriminator", "version 1 of generator.w")


def test_a_balance_of_values_made_anew_is_found():
    """What is carried as the phases left it, computed with what they have updated."""
    program = balanced()
    late = [replace(c, reads=tuple((s, 1) for s, _ in c.reads)) if not c.phase else c for c in program.claims]
    found(replace(program, claims=tuple(late)), "state k in phase of the end", "version 0")


def test_an_update_too_many_or_too_few_is_found():
    program = overlapping()
    less = [replace(c, changes=()) if c.phase == "info" else c for c in program.claims]
    found(replace(program, claims=tuple(less)), "changes state discriminator.b: change 2 of it, and phases claim 1")
    more = [replace(c, changes=(*c.changes, *program.claims[0].changes)) for c in program.claims]
    found(replace(program, claims=tuple(more)), "claims to change state generator.w, and nothing does")
    found(replace(program, claims=()), "change 1 of it, and phases claim 0")


# -- detach ------------------------------------------------------------------------------------------------------------


def features(x, weights, y):
    """One layer each."""
    made, names = [], [x, *(f"{y}.{k}" for k in range(1, len(weights))), y]
    for w, a, b in zip(weights, names, names[1:], strict=False):
        made += [node("MatMul", f"{a} {w}", f"{b}.m"), node("Tanh", f"{b}.m", b)]
    return made


PLACES = {
    "samples": ("again.to", "fake"),  # EBGAN: what an autoencoder gives beside what it was given
    "code": ("code.again", "code"),  # MUNIT: a code beside that of its own decoding
    "other way": ("code", "code.again"),
    "two networks": ("code", "fake.code"),
}


def cut_at(place, cut):
    """A generator's loss that compares two values of its own computation, one of them detached, or not."""
    first, second = PLACES[place]
    more = [
        node("MatMul", "again.2 discriminator.t", "again.to"),
        *features("x", ["generator.e"], "code"),
        *features("code", ["generator.d"], "decoded"),
        *features("decoded", ["generator.f"], "code.again"),
        *features("fake", ["generator.g"], "fake.code"),
        detach(second, "target") if cut else node("Identity", second, "target"),
        node("Sub", f"{first} target", "apart"),
        node("Mul", "apart apart", "apart.2"),
        node("Sum", "apart.2 decoded code.again fake.code", "all"),
        node("ReduceMean", "all", "near", keepdims=0),
        node("Add", "loss_g near", "loss_own"),
    ]
    weights = {"discriminator.t": (5, 4), **{f"generator.{name}": (4, 4) for name in "edfg"}}
    return gan(nodes=more, outputs={"loss_own": []}, weights=weights)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("flow", ["sequential", "parallel"])
def test_a_detach_that_is_dropped_is_found(place, flow):
    phases = ["generator=loss_own", "discriminator=loss_d"]
    cut, whole = (compiled(cut_at(place, c), phases, once=["fake"], dataflow=flow) for c in (True, False))
    assert faults_of(meant(whole, cut)) == []  # a script that lets more through
    found(meant(cut, whole), "in phase generator", "an error that comes from")


def test_an_error_let_through_to_weights_that_stand_still_is_found():
    cut, whole = (compiled(with_features(c), ["generator=loss_g", "discriminator=loss_near"]) for c in (True, False))
    found(meant(cut, whole), "changes state discriminator.e: change 1 of it, and phases claim 0")


# -- draws -------------------------------------------------------------------------------------------------------------


def masked(**options):
    """Dropout in both networks. A network that is run again after an update draws anew."""
    nodes = [
        node("MatMul", "z generator.w", "pre"),
        node("Dropout", "pre half on", "kept"),
        node("Tanh", "kept", "fake"),
        *dropping("fake", "again"),
        *squares("again", "one", "loss_g"),
        *dropping("x", "real"),
        detach("fake", "cut"),
        *dropping("cut", "made"),
        *squares("real", "one", "loss_real"),
        *squares("made", "zero", "loss_fake"),
        node("Add", "loss_real loss_fake", "loss_d"),
    ]
    weights = {"generator.w": (3, 4), "discriminator.a": (4, 5), "discriminator.b": (5, 1)}
    numbers = {"one": np.ones(()), "zero": np.zeros(()), "half": np.array(0.5)}
    made = model(
        nodes,
        {"z": [BATCH, 3], "x": [BATCH, 4]},
        {"loss_g": [], "loss_d": [], "fake": [BATCH, 4]},
        {**weights, **numbers},
        {"on": np.array(True)},
    )
    return compiled(made, **options)


def dropping(x, y):
    first, act, last = critic(x, y)
    act.output[0] = f"{y}.whole"
    return [first, act, node("Dropout", f"{y}.whole half on", f"{y}.2"), last]


def drawing(program):
    """(instruction, number of the step) of every draw of the training entry."""
    return [
        (i, k)
        for i in program.instructions[: program.entries[0].stop]
        if isinstance(i, Vec | Mvm | MvmT)
        for k, step in enumerate(i.steps)
        if step.name.startswith("random_")
    ]


def redrawn(program, at, number):
    i, k = at
    step = replace(i.steps[k], attributes=(float(number), *i.steps[k].attributes[1:]))
    instructions = list(program.instructions)
    instructions[i.id] = replace(instructions[i.id], steps=(*i.steps[:k], step, *i.steps[k + 1 :]))
    return replace(program, instructions=tuple(instructions))


def numbers(program):
    return [int(i.steps[k].attributes[0]) for i, k in drawing(program)]


def test_each_phase_claims_the_draws_of_its_own_runs():
    once, again = told(masked(once=["fake"])), told(masked())
    kept = set(once["generator"][2]) & set(once["discriminator"][2])
    assert len(kept) == 1  # the mask in the samples that are made once
    assert [len(once[p][2]) for p in ("generator", "discriminator")] == [2, 3]
    assert [len(again[p][2]) for p in ("generator", "discriminator")] == [2, 3]
    assert not set(again["generator"][2]) & set(again["discriminator"][2])


@pytest.mark.parametrize("flow", ["sequential", "parallel", "cyclic"])
def test_a_mask_drawn_twice_is_found(flow):
    program = masked(once=["fake"], dataflow=flow)
    draws, known = drawing(program), numbers(program)
    assert sorted(known) == sorted({n for c in program.claims for n in c.draws})
    for at, own in zip(draws, known, strict=True):
        other = next(n for n in known if n != own)
        found(redrawn(program, at, other), f"both draw the numbers {other}")
        found(redrawn(program, at, max(known) + 1), f"draws the numbers {max(known) + 1}, which no phase claims")
        found(redrawn(program, at, max(known) + 1), f"no instruction draws the numbers {own}")


def test_a_mask_drawn_again_for_the_way_back_is_found():
    """A kernel that draws what it should have read."""
    program = masked(once=["fake"])
    (first, k), *_ = drawing(program)
    for i in program.instructions[first.id + 1 : program.entries[0].stop]:
        if isinstance(i, Vec) and not any(s.name.startswith("random_") for s in i.steps):
            for number in (numbers(program)[0], 99):
                step = first.steps[k]
                again = replace(step, attributes=(float(number), *step.attributes[1:]))
                instructions = list(program.instructions)
                instructions[i.id] = replace(i, steps=(*i.steps, again))
                found(replace(program, instructions=tuple(instructions)), f"the numbers {number}")


def test_masks_that_change_places_are_found():
    """Each is drawn once, but for the wrong run of a network."""
    program = masked()
    theirs = {phase: set(draws) for phase, (_, _, draws) in told(program).items()}
    at = dict(zip(numbers(program), drawing(program), strict=True))
    a, b = min(theirs["generator"]), min(theirs["discriminator"])
    found(redrawn(redrawn(program, at[a], b), at[b], a), "by the draw")


def test_masks_of_samples_made_anew_are_found():
    once, again = masked(once=["fake"]), masked()
    found(meant(once, again), "which no phase claims")


# -- a compiler with a fault ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_a_compiler_whose_detach_lets_errors_through_is_found(place, monkeypatch):
    monkeypatch.setitem(GRADIENTS, Detach, lambda build, op, inputs, outputs, cotangents: list(cotangents))
    with pytest.raises(ProgramError, match="in phase generator by an error that comes from"):
        compiled(cut_at(place, True), ["generator=loss_own", "discriminator=loss_d"], once=["fake"])


def test_a_compiler_that_numbers_draws_alike_is_found(monkeypatch):
    def alike(graph):
        for each in [n for n in graph.nodes if isinstance(n.op, Random)]:
            each.op, each.inputs = replace(each.op, number=0), each.inputs[:1]

    monkeypatch.setattr("mgc.passes.training.step.number_draws", alike)
    with pytest.raises(ProgramError, match="both draw the numbers 0"):
        masked()


# -- all together ------------------------------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_every_claim_of_a_script_is_needed(data):
    """One version, one draw or one change less in what a phase claims, and the program does more than that."""
    program = data.draw(st.sampled_from(PROGRAMS))()
    rows = [(k, c) for k, c in enumerate(program.claims) if c.changes]
    k, claim = data.draw(st.sampled_from(rows))
    what = data.draw(st.sampled_from([w for w in ("reads", "draws", "changes") if getattr(claim, w)]))
    one = data.draw(st.sampled_from(getattr(claim, what)))
    less = replace(claim, **{what: tuple(x for x in getattr(claim, what) if x != one)})
    assert faults_of(replace(program, claims=(*program.claims[:k], less, *program.claims[k + 1 :])))


PROGRAMS = [cache(f) for f in (lambda: masked(once=["fake"]), overlapping, balanced, lambda: compiled(gan()))]
