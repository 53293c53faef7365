"""Whether the instructions of a training entry do what its phases claim, from the program alone.

The entry is walked once, in the order of instructions, which is one that the waits allow. Of each buffer, home and
register two sets are known, as bits: what it depends on (versions of states, draws), and what it is made of at once
(states whose crossbars were read last on the way to it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from operator import or_

from mgc.isa.claim import VERSIONED, StoredClaim
from mgc.isa.error import ProgramError
from mgc.isa.functions import function
from mgc.isa.instruction import Instruction
from mgc.isa.instructions import Move, Mvm, MvmT, Outer, Rewrite, Update, Vec
from mgc.isa.kernels import Step
from mgc.isa.memory import BUFFER, REGISTER, Ref
from mgc.isa.tables import Tables
from mgc.isa.verify_states import Home, home_of

Sets = tuple[int, int]
"""What a value depends on, and what it is made of at once."""

NOTHING: Sets = (0, 0)
_DATA: Sets = (0, 1)
"""Of what is no constant: the lowest bit of what it is made of."""
_BY_SCALE = ("quant_by", "dequant_by")
"""Functions whose first operand alone is what their result is made of: the other one is a scale."""


def check_claims(program: Tables) -> None:
    """Raises ProgramError for a claim about an entry or a state that there is not."""
    for k, claim in enumerate(program.claims):
        where = f"claim {k} ({claim.phase})"
        if not 0 <= claim.entry < len(program.entries) or program.entries[claim.entry].kind != "train":
            raise ProgramError(f"{where}: {claim.entry} is no entry that trains")
        slopes = (s for slope in claim.slopes for s in (slope.state, *slope.made_of))
        for state in (*claim.changes, *(s for s, _ in claim.reads), *slopes):
            if not 0 <= state < len(program.states):
                raise ProgramError(f"{where}: state {state} does not exist; there are {len(program.states)}")
        if min((*claim.draws, *(version for _, version in claim.reads)), default=0) < 0:
            raise ProgramError(f"{where}: versions and numbers of draws are at least 0")


def broken_claims(program: Tables) -> list[str]:
    """In words, what the only entry of a verified program does other than its claims say; one for tests has none."""
    if program.entry.kind != "train":
        return []
    walk = _Walk(program)
    return [*walk.run(), *_draws(program)]


def _draws(program: Tables) -> Iterator[str]:
    """Each number that is claimed is drawn by one step, no other one is drawn."""
    claimed = {n for claim in program.claims for n in claim.draws}
    drawn: dict[int, int] = {}
    for i in program.instructions:
        for step in _steps(i):
            number = _number(step)
            if number is None:
                continue
            if number in drawn:
                yield f"instructions {drawn[number]} and {i.id} both draw the numbers {number}"
            elif number not in claimed:
                yield f"instruction {i.id} draws the numbers {number}, which no phase claims"
            drawn[number] = i.id
    for number in sorted(claimed - set(drawn)):
        yield f"no instruction draws the numbers {number}, which a phase claims"


def _steps(i: Instruction) -> Sequence[Step]:
    return i.steps if isinstance(i, Vec | Mvm | MvmT) else ()


def _number(step: Step) -> int | None:
    """The number of the random op that a step is."""
    found = function(step.function)
    return int(step.attributes[0]) if found.cost == "random" else None


class _Walk:
    """The sets of every value, as the instructions of an entry make them."""

    def __init__(self, program: Tables) -> None:
        self.program = program
        self.homes: dict[Home, list[int]] = {}
        for state in program.states:
            for home in dict.fromkeys(home_of(program, piece) for piece in state.pieces):
                if state.kind in VERSIONED:
                    self.homes.setdefault(home, []).append(state.id)
        self.bits: dict[tuple[int, int], int] = {}
        self.versions = dict.fromkeys(self.homes, 0)
        self.held: dict[int, Sets] = {}
        """By root buffer."""
        self.dense: set[int] = set()
        """States whose weights themselves are read off crossbars, as a product would read them by constants."""
        self.claims: dict[int, list[StoredClaim]] = {}
        for claim in program.claims:
            for state in claim.changes:
                self.claims.setdefault(state, []).append(claim)
        self.made: list[tuple[Instruction, int, StoredClaim, Sets]] = []
        """(instruction, state that it changes, the claim of that change, the new value)."""

    # -- sets ------------------------------------------------------------------------------------------------------

    def _bit(self, what: tuple[int, int]) -> int:
        """That of (state, version), or of (-1, number of a draw)."""
        return 1 << self.bits.setdefault(what, len(self.bits))

    def _home(self, home: Home) -> int:
        """The bits of what is in a home now."""
        version = self.versions.get(home, 0)
        return reduce(or_, (self._bit((s, version)) for s in self.homes.get(home, ())), 0)

    def _cells(self, group: int) -> int:
        """Bits of the states in a group, as what is made of them."""
        return reduce(or_, (2 << s for s in self.homes.get((group, -1), ())), 0)

    def _buffer(self, buffer: int) -> Sets:
        root = self.program.root(buffer)
        if (-1, root) in self.homes:
            return self._home((-1, root)), 1
        depends, _ = held = self.held.get(root, NOTHING)
        return (depends, 1) if self.program.buffers[root].persistent else held

    def _ref(self, ref: Ref, registers: Sequence[Sets] = ()) -> Sets:
        if ref.space == REGISTER:
            return registers[ref.index]
        return self._buffer(ref.index) if ref.space == BUFFER else NOTHING

    def _kernel(self, steps: Sequence[Step], registers: list[Sets]) -> list[Sets]:
        for step in steps:
            args = [self._ref(r, registers) for r in step.args]
            depends, made = _union(args)
            number = _number(step)
            if number is not None:
                depends, made = depends | self._bit((-1, number)), 1
            elif function(step.function).name in _BY_SCALE:
                made = args[0][1]
            registers.append((depends, made))
        return registers

    # -- instructions ----------------------------------------------------------------------------------------------

    def run(self) -> Iterator[str]:
        for i in self.program.instructions:
            if i.timed and not isinstance(i, Rewrite):
                yield from self._instruction(i)
        yield from self._all_made()
        for i, state, claim, sets in self.made:
            yield from self._check(i, state, claim, sets)

    def _instruction(self, i: Instruction) -> Iterator[str]:
        match i:
            case Update():
                home = (i.group, -1) if i.group >= 0 else (-1, self.program.root(i.parameter))
                yield from self._change(i, home, self._buffer(i.gradient))
            case Vec():
                registers = self._kernel(i.steps, [])
                for store in i.stores:
                    yield from self._write(i, store.dst, self._ref(store.value, registers))
            case Mvm() | MvmT():
                yield from self._read(i)
            case Move():
                yield from self._write(i, i.dst, _union(self._ref(p.src) for p in i.pieces))
            case Outer():
                depends, _ = _union(map(self._buffer, i.reads()))
                yield from self._write(i, i.dst, (depends, self._buffer(i.x)[1] | self._buffer(i.dy)[1]))
            case _:
                found = _union(map(self._buffer, i.reads())) if i.reads() else _DATA
                for buffer in i.writes():
                    yield from self._write(i, buffer, found)

    def _read(self, i: Mvm | MvmT) -> Iterator[str]:
        depends, made = self._buffer(i.src)
        own = self._cells(i.group)
        if not made:
            self.dense |= set(self.homes.get((i.group, -1), ()))
        sums = depends | self._home((i.group, -1)), own | 1 if own else made
        if isinstance(i, MvmT) and i.accumulate:
            sums = _union([sums, self._buffer(i.dst)])
        if i.stores:
            registers = self._kernel(i.steps, [sums])
            for store in i.stores:
                yield from self._write(i, store.dst, self._ref(store.value, registers))
        else:
            yield from self._write(i, i.dst, sums)

    def _write(self, i: Instruction, buffer: int, value: Sets) -> Iterator[str]:
        """Parts of one product write one buffer."""
        root = self.program.root(buffer)
        if (-1, root) in self.homes:
            yield from self._change(i, (-1, root), value)
        elif self.program.buffers[root].persistent:
            self.held[root] = value
        else:
            self.held[root] = _union([self.held.get(root, NOTHING), value])

    def _change(self, i: Instruction, home: Home, value: Sets) -> Iterator[str]:
        version = self.versions[home] if home in self.homes else 0
        for state in self.homes.get(home, ()):
            claims = self.claims.get(state, [])
            if version < len(claims):
                self.made.append((i, state, claims[version], value))
            else:
                times = f"change {len(claims) + 1} of it, and phases claim {len(claims)}"
                yield f"instruction {i.id} changes state {self._name(state)}: {times}"
        if home in self.homes:
            self.versions[home] += 1

    # -- claims ----------------------------------------------------------------------------------------------------

    def _name(self, state: int) -> str:
        return self.program.states[state].name

    def _all_made(self) -> Iterator[str]:
        for home, states in self.homes.items():
            for state in states:
                missing = self.claims.get(state, [])[self.versions[home] :]
                if missing:
                    yield f"phase {missing[0].phase} claims to change state {self._name(state)}, and nothing does"

    def _check(self, i: Instruction, state: int, claim: StoredClaim, sets: Sets) -> Iterator[str]:
        depends, made = sets
        where = f"instruction {i.id} changes state {self._name(state)} in phase {claim.phase or 'of the end'}"
        allowed = {*claim.reads, *((-1, n) for n in claim.draws)}
        for what, bit in self.bits.items():
            if depends >> bit & 1 and what not in allowed:
                yield f"{where} by {self._told(*what)}, which the phase does not claim to read"
        slopes = {slope.state: slope.made_of for slope in claim.slopes}
        if state in slopes:
            known, waiting = {state}, list(slopes[state])
            while waiting:
                other = waiting.pop()
                if other not in known:
                    known.add(other)
                    waiting += slopes.get(other, ()) if self._is_dense(other) else ()
            for other in range(len(self.program.states)):
                if made >> (other + 1) & 1 and other not in known:
                    yield f"{where} by an error that comes from {self._name(other)}, where the script lets none through"

    def _is_dense(self, state: int) -> bool:
        """Whether products with it may be made of more than reads of its crossbars."""
        return state in self.dense or all(p.group < 0 for p in self.program.states[state].pieces)

    def _told(self, state: int, number: int) -> str:
        return f"the draw {number}" if state < 0 else f"version {number} of {self._name(state)}"


def _union(sets: Iterable[Sets]) -> Sets:
    depends = made = 0
    for a, b in sets:
        depends, made = depends | a, made | b
    return depends, made
