"""What of an iteration may overlap: the data flows that `--dataflow` names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Dataflow:
    """Which correlations between the blocks of an iteration are used.

    split: the batch goes through part by part. beside: operations that need nothing of one another run at once, weight
    gradients beside error propagation. sections: so do the sections of a phase, the discriminator on real samples and
    on fake ones. phases: so do phases, the generator's step during the discriminator's as far as it needs nothing of
    its updates. iterations: so do iterations. Each needs those before it. All are exact: who reads a weight reads the
    same version of it as one after the other.
    """

    split: bool = True
    beside: bool = True
    sections: bool = True
    phases: bool = True
    iterations: bool = False


DATAFLOWS: Mapping[str, Dataflow] = {
    "sequential": Dataflow(split=False, beside=False, sections=False, phases=False),
    "pipelined": Dataflow(sections=False, phases=False),
    "parallel": Dataflow(),
    "cyclic": Dataflow(iterations=True),
    "shared": Dataflow(),
}
"""The flows by name. "shared" is scheduled as "parallel": what differs is the graph."""

DEFAULT_DATAFLOW = "parallel"
