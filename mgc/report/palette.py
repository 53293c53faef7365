"""Colours: an ordered scale for micro-batches, fixed ones for opcodes and stages; all safe for colour-blind readers."""

from __future__ import annotations

# Nine stops of viridis (van der Walt and Smith, CC0), without its palest end, which vanishes on white paper.
STOPS = (
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
    "mvm_t": "#6a51a3",
    "outer": "#8c6d31",
    "update": "#a50f15",
    "diff": "#f0e442",
    "host": "#d55e00",
    "store": "#cc79a7",
}

# A hue for each phase, after Okabe and Ito; within it, later stages are darker. The last is for what trains nothing.
STAGE_COLOURS = (
    {"forward": "#7cc3ec", "loss": "#cfe8f7", "backward": "#1f78b4", "update": "#1d4f7c"},
    {"forward": "#f5b041", "loss": "#fbe3b8", "backward": "#d55e00", "update": "#8a3a00"},
    {"forward": "#6fcfb0", "loss": "#cdeee2", "backward": "#009e73", "update": "#005e45"},
    {"forward": "#dba3c4", "loss": "#f2ddea", "backward": "#b0558a", "update": "#6d2b52"},
    {"forward": "#8d99a6", "loss": "#8d99a6", "backward": "#8d99a6", "update": "#8d99a6"},
)

# For what has no order, layers say: Okabe and Ito's set and darker relatives.
CATEGORIES = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#6a51a3",
    "#8c6d31",
    "#005e45",
    "#7f7f7f",
)

WAVE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def ordered(share: float) -> str:
    """The colour at 0 to 1 of a scale whose lightness rises evenly."""
    at = min(max(share, 0.0), 1.0) * (len(STOPS) - 1)
    low = min(int(at), len(STOPS) - 2)
    mixed = (round(a + (b - a) * (at - low)) for a, b in zip(STOPS[low], STOPS[low + 1], strict=True))
    return "#" + "".join(f"{c:02x}" for c in mixed)


def ink_on(colour: str) -> str:
    """Black or white, whichever reads better on the colour."""
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return "#ffffff" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else "#000000"


def stage_colour(phase: int, kind: str, *, trains: bool = True) -> str:
    """The colour of a stage ("forward", ...) of a phase, by its place among the phases that train."""
    hues = STAGE_COLOURS[:-1]
    return (hues[phase % len(hues)] if trains else STAGE_COLOURS[-1])[kind]
