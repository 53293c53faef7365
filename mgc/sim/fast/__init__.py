"""The fast engine: a program's streams as a plan of large operations, equal to the reference bit for bit."""

from mgc.sim.fast.engine import FastEngine

__all__ = ["FastEngine"]
