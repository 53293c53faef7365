"""What the phases of a training entry claim: the versions that they read, what they change, what they draw."""

from __future__ import annotations

from dataclasses import dataclass

VERSIONED = ("parameter", "carried", "pool")
"""Kinds of states whose versions are told apart. Other states are what they were made of."""


@dataclass(frozen=True)
class Slope:
    """What the gradient of a state is made of at once, that is with no crossbar read in between: results of reads of
    the states `made_of`, in either direction. What has no crossbars is made of what its own gradient is.
    """

    state: int
    made_of: tuple[int, ...]


@dataclass(frozen=True)
class StoredClaim:
    """What the script makes of one phase of entry `entry`, in order. It is told from the script's forward half, not
    from its gradients: a program whose instructions do otherwise is wrong.

    `phase` is its name ("" for the end of the iteration, which hands values on). It changes the states `changes`, each
    once. What it writes depends on the (state, version) of `reads` and on the random ops with the numbers `draws` at
    most; a version counts the changes since the entry began. `slopes` say how errors flow: where the script detaches
    a value, none come back. Of states, parameters and what is carried count. All claims of an entry together have every
    number that it draws, and each is drawn by one step.
    """

    entry: int
    phase: str
    changes: tuple[int, ...]
    reads: tuple[tuple[int, int], ...]
    draws: tuple[int, ...]
    slopes: tuple[Slope, ...]
