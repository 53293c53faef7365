"""docs/constants.md: the constants of targets beside what public models of the same parts state.

`python -m benchmarks.constants > docs/constants.md`. Figures of others are as their files have them (accelergy's
library plug-in at ba4e9da, PUMA's simulator at a206f75), in their units; the arithmetic to ours is written out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.paper.page import table
from mgc.targets.cost import OUTER_NS, OUTER_PJ
from mgc.targets.loader import load_target


@dataclass(frozen=True)
class Constant:
    """A key of a target ("adc.energy_pj"; with `at`, the value at so many bits) and what follows from a source."""

    target: str
    key: str
    source: str
    stated: str
    derived: float
    at: int = 0

    @property
    def ours(self) -> float:
        """What the target's file has."""
        if self.key in _OF_THE_MODEL:
            return _OF_THE_MODEL[self.key]
        place: object = load_target(self.target)
        table_ = place
        for name in self.key.split("."):
            table_, place = place, getattr(place, name)
        if isinstance(place, tuple):
            return float(table_.at_resolution(place, self.at))  # type: ignore[attr-defined]
        assert isinstance(place, int | float)
        return float(place)

    @property
    def off(self) -> float:
        """How far ours is from what follows, relative."""
        return self.ours / self.derived - 1


_OF_THE_MODEL = {"OUTER_NS": OUTER_NS, "OUTER_PJ": OUTER_PJ}
_ISAAC, _ATOM = "accelergy library/isaac/", "accelergy library/atomlayer/"
_PUMA, _CONFIG = "PUMA include/constants.py", "PUMA include/config.py"
_SHRINK = 32 / 45
"""PUMA scales its ALU from 45 nm to 32 nm."""

CONSTANTS: tuple[Constant, ...] = (
    *(
        Constant("liu2018", "adc.energy_pj", f"{_ISAAC}isaac_adc.csv", f"{bits} bits: {pj:.4g} pJ", pj, bits)
        for bits, pj in ((4, 0.79), (5, 0.99), (6, 1.20), (7, 1.42), (8, 16e-3 / (8 * 1.2e9) * 1e12), (10, 2.379022742))
    ),
    *(
        Constant("liu2018", "adc.area_um2", f"{_ISAAC}isaac_adc.csv", f"{bits} bits: {um2:.6g} um2", um2, bits)
        for bits, um2 in ((4, 361.04), (6, 626.91), (8, 9600 / 8), (10, 3002.008032))
    ),
    Constant("liu2018", "dac.energy_pj", f"{_ISAAC}isaac_dac.csv", "0.41667 pJ a drive", 0.41667, 1),
    Constant("liu2018", "dac.area_um2", f"{_ISAAC}isaac_dac.csv", "170 um2 / (128 x 8)", 170 / 1024, 1),
    Constant("liu2018", "cell.read_energy_fj", _PUMA, "0.3 mW x 100 ns / 128^2", 0.3 * 100 / 128**2 * 1e3),
    Constant("liu2018", "cell.area_um2", _PUMA, "2.5e-5 mm2 / 128^2", 2.5e-5 * 1e6 / 128**2),
    Constant("liu2018", "cell.row_write_ns", f"{_ISAAC}isaac.cell", "set 40 ns + reset 40 ns", 80),
    Constant(
        "liu2018", "cell.write_energy_pj", f"{_ISAAC}isaac.cell", "(2 V)^2 / 2 kOhm x 40 ns", 2**2 / 2e3 * 40 * 1e3
    ),
    Constant("liu2018", "device.on_us", f"{_ISAAC}isaac.cell", "2 kOhm", 1e6 / 2e3),
    Constant("liu2018", "device.off_us", f"{_ISAAC}isaac.cell", "3 MOhm", 1e6 / 3e6),
    Constant("liu2018", "periphery.shift_add_energy_pj", f"{_ISAAC}isaac_shift_add.csv", "0.021 pJ of 16 bits", 0.021),
    Constant("liu2018", "periphery.shift_add_area_um2", f"{_ISAAC}isaac_shift_add.csv", "60 um2", 60),
    Constant("liu2018", "periphery.sample_hold_energy_fj", _PUMA, "9.7e-6 mW x 100 ns", 9.7e-6 * 100 * 1e3),
    Constant("liu2018", "periphery.sample_hold_area_um2", _PUMA, "4e-5 mm2 / 8 / 128", 4e-5 / 8 / 128 * 1e6),
    Constant(
        "liu2018",
        "periphery.input_register_energy_pj_per_byte",
        f"{_ATOM}atomlayer_input_buffer_transfers.csv",
        "6.46 pJ of 2 bytes, written and read",
        2 * 6.46 / 2,
    ),
    Constant(
        "liu2018",
        "periphery.input_register_area_um2",
        f"{_ATOM}atomlayer_input_buffer_transfers.csv",
        "2100 um2",
        2100,
    ),
    Constant("liu2018", "edram.bytes_per_tile", f"{_ISAAC}isaac_eDRAM.csv", "2048 x 256 bits", 2048 * 256 / 8),
    Constant(
        "liu2018",
        "edram.energy_pj_per_byte",
        f"{_ISAAC}isaac_eDRAM.csv, isaac_eDRAM_bus.csv",
        "20.45 pJ / 32 B + 8 x 0.054 pJ",
        20.45 / 32 + 8 * 0.054,
    ),
    Constant(
        "liu2018",
        "edram.area_mm2",
        f"{_ISAAC}isaac_eDRAM.csv, isaac_eDRAM_bus.csv",
        "83000 um2 + 12 x 256 x 29.3 um2",
        (83000 + 12 * 256 * 29.296875) * 1e-6,
    ),
    Constant("liu2018", "noc.energy_pj_per_byte_hop", f"{_ISAAC}isaac_router.csv", "20.74 pJ / 32 B", 20.74 / 32),
    Constant("liu2018", "noc.router_area_mm2", f"{_ISAAC}isaac_router.csv", "150000 um2", 0.15),
    Constant("liu2018", "link.energy_pj_per_byte", _PUMA, "10.4 W / 6.4 GB/s", 10.4 / 6.4e9 * 1e12),
    Constant("liu2018", "link.area_mm2", _PUMA, "22.88 mm2", 22.88),
    Constant("liu2018", "link.latency_ns", _PUMA, "5 ns a packet", 5),
    Constant("liu2018", "vector.energy_pj.simple", _PUMA, "0.373 mW x 32/45 x 1 ns", 0.373 * _SHRINK),
    Constant("liu2018", "vector.energy_pj.multiply", _PUMA, "0.795 mW x 32/45 x 1 ns", 0.795 * _SHRINK),
    Constant("liu2018", "vector.energy_pj.divide", _PUMA, "1.52 mW x 32/45 x 1 ns", 1.52 * _SHRINK),
    Constant("liu2018", "vector.energy_pj.table", _PUMA, "0.26 mW x 1 ns", 0.26),
    Constant(
        "liu2018", "vector.area_mm2", _PUMA, "48 x (0.00567 x 32/45 + 0.0003) mm2", 48 * (0.00567 * _SHRINK + 0.0003)
    ),
    Constant("liu2018", "structure.tiles_per_chip", _CONFIG, "num_tile_max 168", 168),
    Constant("puma", "adc.energy_pj", _PUMA, "8 bits: 1.8 mW x 100 ns / 128", 1.8 * 100 / 128, 8),
    Constant("puma", "adc.energy_pj", _PUMA, "4 bits: 0.9 mW x 50 ns / 128", 0.9 * 50 / 128, 4),
    Constant("puma", "adc.sample_ns", _PUMA, "8 bits: 100 ns / 128", 100 / 128, 8),
    Constant("puma", "adc.area_um2", _PUMA, "0.0012 mm2", 1200, 8),
    Constant("puma", "dac.energy_pj", _PUMA, "0.00350625 mW x 100 ns", 0.00350625 * 100, 1),
    Constant("puma", "dac.area_um2", _PUMA, "1.67e-7 mm2", 0.167, 1),
    Constant("puma", "cell.row_write_ns", _PUMA, "351000 ns / 32 / 128", 351e3 / 32 / 128),
    Constant("puma", "periphery.shift_add_energy_pj", _PUMA, "(0.05 - 0.005) mW x 1 ns", 0.045),
    Constant("puma", "periphery.sample_hold_energy_fj", _PUMA, "(9.7e-6 - 9.7e-7) mW x 100 ns", 0.873),
    Constant(
        "puma",
        "periphery.input_register_energy_pj_per_byte",
        _PUMA,
        "(16 x 1.7 + 0.16) mW x 1 ns / 256 B",
        (16 * 1.7 + 0.16) / 256,
    ),
    Constant(
        "puma",
        "edram.energy_pj_per_byte",
        _PUMA,
        "((17.2 / 2 + 0.475) mW x 2 ns + 3 mW x 1 ns) / 32 B",
        ((17.2 / 2 + 0.475) * 2 + 3) / 32,
    ),
    Constant("puma", "edram.area_mm2", _PUMA, "(0.086 + 0.090 + 0.00145) mm2", 0.086 + 0.090 + 0.00145),
    Constant("puma", "vector.energy_pj.table", _PUMA, "(0.26 - 0.026) mW x 1 ns", 0.234),
    Constant(
        "puma", "vector.area_mm2", _PUMA, "32 x (0.00567 x 32/45 + 0.0003) mm2", 32 * (0.00567 * _SHRINK + 0.0003)
    ),
    Constant("puma", "noc.energy_pj_per_byte_hop", _PUMA, "16.13 mW / (4 ports x 4 B/ns)", 16.13 / 16),
    Constant("puma", "noc.router_area_mm2", _PUMA, "0.047 mm2", 0.047),
    Constant("liu2018", "OUTER_NS", _PUMA, "20 x 12.8 ns", 20 * 12.8),
    Constant("liu2018", "OUTER_PJ", _PUMA, "4.44 x 3.27 / 12.8 mW x 256 ns", 4.44 * 3.27 / 12.8 * 256),
)


def document(constants: Sequence[Constant] = CONSTANTS) -> str:
    """The page."""
    rows = [
        (c.target, f"`{c.key}`", f"{c.ours:.6g}", c.stated, f"{c.derived:.6g}", f"{100 * abs(c.off):.1f} %", c.source)
        for c in constants
    ]
    titles = ("target", "key", "ours", "stated there", "that is", "off", "source")
    return (
        "# Constants beside their sources\n\n"
        "Generated by `python -m benchmarks.constants`, checked by a test: each constant that comes from a public\n"
        "model, the figure as that model's file has it, and how far ours is from what follows. They differ by\n"
        "rounding (at most 1 %). isaac and isaac_transposed take liu2018's; `OUTER_NS` and `OUTER_PJ` are the\n"
        "gradient unit's (`targets/cost.py`). What no source states is marked as assumed in the files of\n"
        "the targets; other sources of theirs (MNSIM, CrossSim, CiMLoop, PIMCOMP, aihwkit) are named there.\n\n"
        f"{table(titles, rows)}"
    )


if __name__ == "__main__":
    sys.stdout.write(document())
