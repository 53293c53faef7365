"""What the support table says of one op."""

from __future__ import annotations

from typing import NamedTuple

PLACES = {
    "crossbar": "crossbars, where one operand is constant (a weight)",
    "weights": "nowhere: folded into a convolution's weights where there is one before or after it",
    "vector": "the vector unit",
    "move": "address generators (data movement only)",
    "nothing": "nowhere: known when the model is compiled",
    "host": "the host, off the chip",
}
"""Where work can go, in the order of the table's columns."""


class OpSupport(NamedTuple):
    """One op: the places of `PLACES` that its forms need, and the forms that go to the host (none: all or none do)."""

    op: str
    domain: str
    runs_on: tuple[str, ...]
    host_when: tuple[str, ...] = ()
