"""Instructions to records and back; damaged streams."""

import dataclasses
import time

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from programs import random_program

from mgc.functions.windows import Windows
from mgc.isa import codec
from mgc.isa.codec import RECORD, Streams, decode, encode, narrow
from mgc.isa.error import ProgramError
from mgc.isa.instruction import HEADER, OPCODES, Instruction, operands_of
from mgc.isa.instructions import CONSTANT, Host, Move, Mvm, Piece, Ref, Result, Step, Store, Vec
from mgc.isa.schema import ListOf, Pair, Record, Scalar, record_of

words = st.integers(-(2**63), 2**63 - 1)


def strategy(kind):
    match kind:
        case Scalar(type_):
            return {int: words, float: st.floats(allow_nan=False), bool: st.booleans()}[type_]
        case ListOf(item):
            return st.lists(strategy(item), max_size=4).map(tuple)
        case Pair(items):
            return st.tuples(*map(strategy, items))
        case Record(cls, fields):
            return st.tuples(*(strategy(k) for _, k in fields)).map(lambda values: cls(*values))


@st.composite
def any_instructions(draw):
    """Instructions of every kind with any field values at all: the codec does not judge."""
    ids = draw(st.permutations(range(draw(st.integers(0, 6)))))
    result = []
    for index in ids:
        cls = draw(st.sampled_from(list(OPCODES.values())))
        fields = {name: draw(strategy(kind)) for name, kind in operands_of(cls).fields}
        after = tuple(draw(st.lists(words, max_size=3)))
        previous = tuple(draw(st.lists(st.tuples(words, words), max_size=3)))
        source = draw(st.integers(-1, 2**31 - 1))
        result.append(cls(index, draw(st.integers(0, 3)), draw(words), after, previous, source, **fields))
    return sorted(result, key=lambda i: i.id)


@settings(deadline=None, max_examples=200)
@given(any_instructions())
def test_any_instruction_survives(instructions):
    streams = encode(instructions, 4)
    assert sum(streams.counts) == len(instructions)
    assert decode(streams) == tuple(instructions)


@settings(deadline=None, max_examples=25)
@given(st.randoms(use_true_random=False))
def test_programs_survive(rng):
    program = random_program(rng)
    streams = encode(program.instructions, len(program.units))
    assert decode(streams) == program.instructions
    for unit, count in enumerate(streams.counts):
        assert count == sum(i.unit == unit for i in program.instructions)


def test_special_reals_keep_their_bits():
    attributes = (0.0, -0.0, float("inf"), 5e-324, float("nan"))
    vec = Vec(0, 0, 1, (), (), -1, (Step(98, (Ref(CONSTANT, 0),), attributes),), ())
    (back,) = decode(encode([vec], 1))
    assert isinstance(back, Vec)
    assert np.array(back.steps[0].attributes).tobytes() == np.array(attributes).tobytes()


def test_equal_lists_are_stored_once():
    piece = Piece(Ref(0, 0), (2, 3), 0, (3, 1), 0, (3, 1))
    moves = [Move(k, 0, 1, (), (), 0, (piece,) * 50, 7) for k in range(100)]
    assert len(encode(moves, 1).words) < 120


def test_narrow():
    for values, dtype in (([], "int8"), ([127], "int8"), ([-129], "int16"), ([1 << 20], "int32"), ([1 << 40], "int64")):
        array = narrow(np.array(values, np.int64))
        assert array.dtype == dtype
        assert array.tolist() == values


def sample() -> Streams:
    store = Store(1, 1, 2, (0,), (), 0, Ref(0, 3), 0)
    vec = Vec(0, 0, 5, (), ((1, 2),), 0, (Step(64, (Ref(0, 0), Ref(0, 1)), ()),), (Result(Ref(2, 0), 3),))
    return encode([vec, store], 2)


def test_damaged_words_never_escape():
    """Whatever stands in the pool, decoding ends: with instructions or with a ProgramError."""
    streams = sample()
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(3000):
        pool = streams.words.astype(np.int64).copy()
        pool[rng.integers(len(pool))] = rng.choice([-1, 0, 1, 2, len(pool), 1 << 40, int(rng.integers(len(pool)))])
        try:
            decode(Streams(streams.records, streams.counts, pool, streams.reals))
            outcomes.add("decoded")
        except ProgramError as error:
            outcomes.add(str(error).split(":")[0])
    assert "decoded" in outcomes
    assert "record 0 of unit 0" in outcomes


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("opcode", 99, "opcode 99 is unknown"),
        ("streamed", 2, "is unknown"),
        ("unit", 1, "astray"),
        ("id", 7, "count from 0"),
        ("id", 1, "there twice"),
        ("operands", 1 << 30, "outside the pool"),
        ("after", 1 << 30, "outside the pool"),
    ],
)
def test_damaged_records(field, value, message):
    streams = sample()
    records = streams.records.copy()
    records[0][field] = value
    with pytest.raises(ProgramError, match=message):
        decode(dataclasses.replace(streams, records=records))


def test_counts_must_fit():
    with pytest.raises(ProgramError, match="3 records, but 2"):
        decode(dataclasses.replace(sample(), counts=(1, 2)))


def test_a_small_pool_cannot_unfold_without_end(monkeypatch):
    monkeypatch.setattr(codec, "MOST_WORDS", 1000)
    piece = Piece(Ref(0, 0), (1,) * 50, 0, (1,) * 50, 0, (1,) * 50)
    with pytest.raises(ProgramError, match="unfold to more"):
        decode(encode([Move(0, 0, 1, (), (), 0, (piece,) * 50, 7)], 1))


def test_a_list_that_many_instructions_name_is_read_once():
    """Work is bounded by the file, though each use counts: 2^23 words in 4,096 mentions took 28 s item by item."""
    streams = sample()
    words = streams.words.astype(np.int64)
    shared = [2, 7, 8, 1364, *[len(words)] * 1364]
    records = np.repeat(streams.records[:1], 2048)
    records["id"], records["after_previous"] = np.arange(2048), len(words) + 3
    begin = time.process_time()
    found = decode(Streams(records, (2048,), np.concatenate([words, shared]), streams.reals))
    assert time.process_time() - begin < 3
    assert all(i.after_previous == ((7, 8),) * 1364 for i in found)


def test_the_schema_covers_every_class():
    assert RECORD.itemsize == 40
    for cls in OPCODES.values():
        assert issubclass(cls, Instruction)
        assert not {name for name, _ in HEADER.fields} & {name for name, _ in operands_of(cls).fields}
    known = {"program", "mvm", "vec", "move", "load", "store", "host", "mvm_t", "outer", "update"}
    assert known <= {c.mnemonic for c in OPCODES.values()}
    assert str(dict(operands_of(Mvm).fields)["windows"]) == "Windows"
    assert {str(kind) for _, kind in record_of(Windows).fields} == {"int[]"}
    assert str(dict(operands_of(Host).fields)["args"]) == "Ref[]"
