"""What a chip is (description, cost) and how to emit code for it (codegen). One TOML file a chip.

>>> target = load_target("isaac")
>>> target.crossbars
16128
"""

from mgc.targets.cost import CostModel, Occupancy, Route
from mgc.targets.description import COST_CLASSES, CostClass, Crossbar, Target
from mgc.targets.energy import EnergyBreakdown
from mgc.targets.loader import DEFAULT_TARGET, load_target, parse_target, target_names, target_toml
from mgc.targets.problems import TargetError
from mgc.targets.totals import chip_area_mm2, peak_power_w

__all__ = [
    "COST_CLASSES",
    "DEFAULT_TARGET",
    "CostClass",
    "CostModel",
    "Crossbar",
    "EnergyBreakdown",
    "Occupancy",
    "Route",
    "Target",
    "TargetError",
    "chip_area_mm2",
    "load_target",
    "parse_target",
    "peak_power_w",
    "target_names",
    "target_toml",
]
