"""Runs a program: reference interpreter, fast engine, replay of the schedule. Knows nothing but `mgc.isa`."""

from mgc.sim.engine import DivergenceError, Engine, EngineState, Numerics, SimulationError
from mgc.sim.exactness import exact_columns
from mgc.sim.inputs import draw_inputs
from mgc.sim.replay import Replay, replay
from mgc.sim.simulator import Simulator

__all__ = [
    "DivergenceError",
    "Engine",
    "EngineState",
    "Numerics",
    "Replay",
    "SimulationError",
    "Simulator",
    "draw_inputs",
    "exact_columns",
    "replay",
]
