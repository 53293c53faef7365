"""What buffers weigh in memory."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mgc.isa.memory import Buffer, bytes_of, nbytes, slot_bytes

TARGET = {"periphery": {"accumulator_bytes": 5}}
BITS = {"bool": 1, "float32": 32, "int8": 8, "uint16": 16, "int64": 40}
KINDS = {("acc" if d == "int64" else "code" if "int" in d else "real", d): bits for d, bits in BITS.items()}


@given(st.sampled_from(list(KINDS)), st.integers(1, 8), st.integers(0, 40))
def test_bytes_are_those_of_the_bits_rounded_up(kind, parts, each):
    bits = KINDS[kind]
    b = Buffer(0, "b", *kind, (parts, each), parts=parts)
    assert nbytes(b, TARGET) == -(-parts * each * bits // 8)
    assert parts * slot_bytes(b, TARGET) >= nbytes(b, TARGET) > parts * (slot_bytes(b, TARGET) - 1) or not each
    assert bytes_of(b, each, TARGET) <= slot_bytes(b, TARGET)


@pytest.mark.parametrize("target", [{}, {"periphery": {}}])
def test_sums_weigh_eight_bytes_where_the_target_does_not_say(target):
    assert nbytes(Buffer(0, "b", "acc", "int64", (3,)), target) == 24
