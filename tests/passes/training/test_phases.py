"""Phases as they are written, and the parameters that they find."""

import pytest

from mgc.ir.ops import Adam, RmsProp, Sgd
from mgc.ir.training import Phase
from mgc.passes.manager import UnsupportedError
from mgc.passes.training.optimizers import optimizer, rule_of
from mgc.passes.training.phases import check_phases, find_groups, parse_phase, stages_of


def test_phases_are_parsed():
    assert parse_phase("discriminator=loss_d") == Phase("discriminator", "loss_d")
    assert parse_phase("d = l , steps=5, lr=1e-4 ,clip=0.01") == Phase("d", "l", 5, 1e-4, 0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("discriminator", "NAME=LOSS is needed"),
        ("=loss_d", "NAME=LOSS is needed"),
        ("d=", "NAME=LOSS is needed"),
        ("d=l,step=5", "option 'step=5' is not one of steps=K, from=STEP, lr=X, wd=W, clip=C, clipnorm=X"),
        ("d=l,steps", "option 'steps' is not one of"),
        ("d=l,steps=2,steps=3", "steps is given twice"),
        ("d=l,steps=2.5", "steps is '2.5', a number is needed"),
        ("d=l,steps=0", "steps is 0, at least 1 is needed"),
        ("d=l,lr=-1", "lr is -1.0, a positive number is needed"),
        ("d=l,from=1.5", "from is '1.5', a number is needed"),
        ("d=l,from=-1", "from is -1: the number of a step"),
        ("d=l,clip=nan", "clip is nan, a positive number is needed"),
    ],
)
def test_a_phase_that_is_not_well_formed(text, message):
    with pytest.raises(UnsupportedError, match=message):
        parse_phase(text)


def test_phases_go_together():
    with pytest.raises(UnsupportedError, match="no phase"):
        check_phases([], ["loss"])
    with pytest.raises(UnsupportedError, match="phase d is given twice"):
        check_phases([Phase("d", "a"), Phase("d", "b")], ["a", "b"])
    with pytest.raises(UnsupportedError, match="phase d: from=3, but no phase trains before step 3"):
        check_phases([Phase("g", "a", since=4), Phase("d", "b", since=3)], ["a", "b"])


def test_a_phase_that_begins_later_takes_the_place_of_one_of_its_name():
    phases = [parse_phase(t) for t in ("g=a", "g=b,from=5", "d=c,from=2", "g=e,from=9")]
    g, late, d, last = phases
    assert stages_of(phases) == [(0, 2, (g,)), (2, 5, (g, d)), (5, 9, (late, d)), (9, 0, (d, last))]


NAMES = {"g.a.weight": "g.a.weight", "onnx::Conv_7": "g.b.weight", "gx.weight": "gx.weight", "d.w": "d.w"}


def test_groups_are_prefixes_of_module_paths():
    groups = find_groups(NAMES, [Phase("g", "l"), Phase("d", "l")])
    assert groups == {"g.a.weight": ("g",), "onnx::Conv_7": ("g",), "d.w": ("d",)}


def test_groups_are_patterns_where_they_are_given():
    groups = find_groups(NAMES, [Phase("all", "l")], {"all": ["g*", "d.?"]})
    assert set(groups) == set(NAMES)
    assert find_groups(NAMES, [Phase("one", "l")], {"one": ["onnx::*"]}) == {"onnx::Conv_7": ("one",)}


def test_phases_may_share_parameters():
    """The group that a parameter is called after is the smallest that holds it."""
    groups = find_groups(NAMES, [Phase("info", "l"), Phase("g", "l")], {"info": ["g.*", "d.*", "d.w"]})
    assert groups == {"g.a.weight": ("g", "info"), "onnx::Conv_7": ("g", "info"), "d.w": ("info",)}


def test_groups_that_do_not_fit():
    with pytest.raises(
        UnsupportedError, match=r"phase e trains nothing: .* is named e\.\*\. Prefixes found: d, g, gx\."
    ):
        find_groups(NAMES, [Phase("e", "l")])
    with pytest.raises(UnsupportedError, match=r"no float initializer matches q\*"):
        find_groups(NAMES, [Phase("e", "l")], {"e": ["q*"]})
    with pytest.raises(UnsupportedError, match="group x: there is no such phase; phases are g"):
        find_groups(NAMES, [Phase("g", "l")], {"x": ["*"]})


def test_optimizers_by_name():
    assert optimizer("sgd", lr=0.1) == Sgd(0.1)
    assert optimizer("sgd", lr=0.1, momentum=0.5) == Sgd(0.1, 0.5)
    assert optimizer("momentum", lr=0.1) == Sgd(0.1, 0.9)
    assert optimizer("adam", lr=2e-4, betas=(0.5, 0.999)) == Adam(2e-4, 0.5, 0.999)
    assert optimizer("adam") == Adam(1e-3, 0.9, 0.999, 1e-8)
    assert optimizer("rmsprop", alpha=0.9, centered=True) == RmsProp(1e-2, 0.9, 1e-8, 0.0, True)
    assert rule_of(Adam(0.1), Phase("g", "loss", lr=0.2, wd=0.5)) == Adam(0.2, weight_decay=0.5)
    assert rule_of(Adam(0.1), Phase("g", "loss")) == Adam(0.1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adagrad", {}, "no optimizer 'adagrad': choose one of sgd, momentum, adam, adamw, rmsprop"),
        ("sgd", {"betas": (0.5, 0.9)}, "optimizer sgd has no betas"),
        ("adam", {"alpha": 0.9, "momentum": 0.1}, "optimizer adam has no alpha, momentum"),
        ("adam", {"lr": float("nan")}, "lr is nan: a number >= 0 is needed"),
        ("adam", {"betas": (1.0, 0.9)}, "betas are 1.0, 0.9"),
    ],
)
def test_optimizers_that_do_not_exist(name, options, message):
    with pytest.raises(UnsupportedError, match=message):
        optimizer(name, **options)
