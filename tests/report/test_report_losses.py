"""The view of losses: curves against the functions themselves, errors within what is stated, pictures that hold."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from handmade import chain

import mgc
from mgc.report import facts, report

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "onnx"


@pytest.fixture(scope="module")
def program():
    return mgc.compile(ZOO / "mlp_G.onnx", discriminator=ZOO / "mlp_D.onnx", loss="bce", batch=4)


def test_blocks_are_told_with_their_curves(program):
    shown = facts(program, "losses")
    kinds = [name for i in program.instructions if (name := i.mnemonic) == "diff"]
    assert len(shown["blocks"]) == len(kinds) > 0
    for block in shown["blocks"]:
        curve = {name: np.array(values) for name, values in block["curve"].items()}
        u, t = curve["u"], block["target"]
        if block["function"] == "cross-entropy":
            exact = np.maximum(u, 0) + np.log1p(np.exp(-np.abs(u))) - t * u
            np.testing.assert_allclose(curve["exact_f"], exact, rtol=1e-6, atol=1e-7)
            np.testing.assert_allclose(curve["exact_slope"], 1 / (1 + np.exp(-u)) - t, rtol=1e-5, atol=1e-7)
        size = np.maximum(1, np.abs(curve["exact_f"]))
        assert (np.abs(curve["f"] - curve["exact_f"]) <= (block["value_error"] + 1e-6) * size).all()
        assert (np.abs(curve["slope"] - curve["exact_slope"]) <= block["slope_error"] + 1e-6).all()
        assert block["seconds"] == pytest.approx(block["cycles"] * program.clock_ns * 1e-9)


def test_text_and_picture(program):
    text = report(program, "losses")
    assert max(map(len, text.splitlines())) <= 80
    assert "One run of a block gives a branch of the loss and its error deltas at once" in text
    root = ET.fromstring(report(program, "losses", "svg", title="a <b>"))
    words = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words[0] == "a <b>: diff-blocks"
    assert report(program, "losses", "svg") == report(program, "losses", "svg")
    assert '<figure class="curves"><svg' in report(program, "losses", "html")


def test_a_program_without_losses_says_so():
    assert "computes no loss" in report(chain(), "losses")
    assert "computes no loss" in report(chain(), "losses", "svg")
    assert facts(chain(), "losses")["blocks"] == []
