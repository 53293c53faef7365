"""What is spilled off-chip: enough, and what saves least traffic on the chip."""

from hypothesis import given
from hypothesis import strategies as st

from mgc.ir.graph import Value
from mgc.ir.types import DType, TensorType
from mgc.passes.scheduling.memory import LiveRange, peak, spill

numbers = st.integers(1, 60)


def ranges_of(drawn):
    type_ = TensorType(DType.F32, (1,))
    return [
        LiveRange(Value(f"v{k}", type_), size, 1, 1, ((begin, begin + length),), traffic)
        for k, (size, begin, length, traffic) in enumerate(drawn)
    ]


@given(st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=12), st.integers(0, 150))
def test_what_is_left_fits_and_nothing_is_spilled_without_need(drawn, capacity):
    ranges = ranges_of(drawn)
    gone = spill(ranges, capacity)
    assert peak([r for r in ranges if r.value not in gone]) <= capacity
    if peak(ranges) <= capacity:
        assert not gone


@given(st.permutations(range(4)))
def test_of_what_is_alive_at_once_that_goes_which_is_worth_least(order):
    """A small slot that a whole batch goes through saves more than a large value that waits for its gradient."""
    sums, activation, code, late = (4, 0, 10, 800), (40, 0, 90, 120), (10, 0, 50, 60), (4, 80, 5, 1)
    drawn = [(sums, activation, code, late)[k] for k in order]
    ranges = ranges_of(drawn)
    gone = spill(ranges, 20)
    assert {drawn[k] for k, r in enumerate(ranges) if r.value in gone} == {activation}
