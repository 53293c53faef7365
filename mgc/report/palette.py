"""Colours: an ordered scale for micro-batches and fixed colours for opcodes, both safe for colour-blind readers."""

from __future__ import annotations

# Nine stops of viridis (van der Walt and Smith, CC0), without its palest end, which vanishes on white paper.
_STOPS = (
    (68, 1, 84),
    (71, 39, 119),
    (62, 73, 137),
    (48, 103, 141),
    (37, 130, 142),
    (30, 157, 136),
    (53, 183, 120),
    (109, 205, 88),
    (180, 221, 44),
)

# Okabe and Ito's set.
OPCODE_COLOURS = {
    "load": "#56b4e9",
    "move": "#e69f00",
    "mvm": "#0072b2",
    "vec": "#009e73",
    "diff": "#f0e442",
    "host": "#d55e00",
    "store": "#cc79a7",
}

WAVE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def ordered(share: float) -> str:
    """The colour at 0 to 1 of a scale whose lightness rises evenly."""
    at = min(max(share, 0.0), 1.0) * (len(_STOPS) - 1)
    low = min(int(at), len(_STOPS) - 2)
    mixed = (round(a + (b - a) * (at - low)) for a, b in zip(_STOPS[low], _STOPS[low + 1], strict=True))
    return "#" + "".join(f"{c:02x}" for c in mixed)


def ink_on(colour: str) -> str:
    """Black or white, whichever reads better on the colour."""
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return "#ffffff" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else "#000000"
