"""A short run of the fuzzer over every kind of input; `make fuzz` runs it for long."""

import signal
import warnings

import pytest
from draws import Seeded
from kinds import KINDS, attempt

COUNTS = {"onnx": 25, "program": 60, "asm": 40, "ir": 40, "target": 80, "checkpoint": 60, "data": 120}
SECONDS = 60  # of a busy machine, for one input


@pytest.mark.parametrize("kind", KINDS)
def test_every_input_is_taken_or_refused_in_words(kind, tell):
    seen: dict[str, int] = {}
    for seed in range(COUNTS[kind]):
        data = KINDS[kind].make(Seeded(f"{kind}{seed}"))
        signal.alarm(SECONDS)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                found = attempt(kind, data)
        except Exception as error:
            raise AssertionError(f"{kind}, seed {seed}: {type(error).__name__}: {str(error)[:300]}") from error
        finally:
            signal.alarm(0)
        seen[found or "taken"] = seen.get(found or "taken", 0) + 1
    tell(f"fuzz {kind}: {', '.join(f'{n} {name}' for name, n in sorted(seen.items()))}")
    assert len(seen) > 1 or kind == "data"
