"""The engines' bits on drawn networks and targets; the command runs thousands: `python -m benchmarks.agreement`."""

import numpy as np
import pytest

import mgc
from benchmarks import agreement


@pytest.mark.filterwarnings("ignore")  # some numbers overflow on purpose
@pytest.mark.parametrize("first", range(0, 48, 12))
def test_engines_give_the_same_bits(first):
    done = [agreement.case(seed) for seed in range(first, first + 12)]
    assert [d for d in done if d.differences] == []
    assert sum(not d.refused for d in done) >= 10
    assert len({op for d in done for op in d.ops}) > 20


def test_every_bit_counts_but_those_of_nan():
    zeros = np.array([0.0, -0.0, 1.0, np.nan], np.float32)
    assert agreement.differing(zeros, zeros.copy()) == 0
    assert agreement.differing(-zeros, zeros) == 3
    assert agreement.differing(np.nextafter(zeros, np.float32(2)), zeros) == 3
    assert agreement.differing(zeros[:2], zeros) == 4
    assert agreement.differing(zeros.astype(np.float64), zeros) == 4


@pytest.mark.filterwarnings("ignore")
def test_a_wrong_engine_is_found(monkeypatch):
    class Wrong(mgc.Simulator):
        """Its fast engine loses the sign of zeros."""

        def __init__(self, program, engine, *rest, **options):
            super().__init__(program, engine, *rest, **options)
            self.wrong = engine == "fast"

        def run(self, inputs, progress=None):
            results = super().run(inputs, progress)
            return {n: np.where(a == 0, 0, a).astype(a.dtype) if self.wrong else a for n, a in results.items()}

    monkeypatch.setattr(agreement, "Simulator", Wrong)
    assert any(agreement.case(seed).differences for seed in range(20))
