"""What a chip is (description, cost) and how to emit code for it (codegen). One TOML file a chip."""

from targets.description import COST_CLASSES, CostClass, Crossbar, Target
from targets.loader import DEFAULT_TARGET, load_target, parse_target, target_names, target_toml
from targets.problems import TargetError

__all__ = [
    "COST_CLASSES",
    "DEFAULT_TARGET",
    "CostClass",
    "Crossbar",
    "Target",
    "TargetError",
    "load_target",
    "parse_target",
    "target_names",
    "target_toml",
]
