"""Which values code buffers can hold: every code that reaches a crossbar must fit its input bits.

Codes are born in QUANT steps and pass through functions that only choose among their operands; anything else may
give any value of its type.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mgc.isa.dtypes import numpy_dtype
from mgc.isa.error import ProgramError
from mgc.isa.functions import Attributes, Operand, function, windows_of
from mgc.isa.instructions import BUFFER, CONSTANT, Move, Mvm, MvmT, Ref, Vec
from mgc.isa.tables import Tables

Range = tuple[int, int]

CHOOSING = frozenset({"copy", "reshape", "gather", "max", "min", "relu", "where", "reduce_max", "reduce_min"})
"""Functions whose result is one of their operands' values, or 0."""


def check_ranges(program: Tables) -> None:
    """Raises ProgramError if a code might not fit its crossbar, or codes mix with real values."""
    codes: dict[int, Range] = {}
    for i in program.instructions:
        if isinstance(i, Vec):
            _kernel(program, i, i.registers(program), 0, codes)
        elif isinstance(i, Move):
            _move(program, i, codes)
        elif isinstance(i, Mvm | MvmT):
            lo, hi = _buffer(program, i.src, codes)
            if isinstance(i, Mvm):
                lo, hi = _join((lo, hi), (i.outside, i.outside))
            least, most = program.groups[i.group].arithmetic.code_range(i.signed)
            if lo < least or hi > most:
                name = program.buffers[i.src].name
                raise ProgramError(
                    f"instruction {i.id} ({i.mnemonic}): codes of buffer {name} are in {lo}..{hi}, "
                    f"group {i.group} takes {least}..{most}"
                )
            if i.stores:
                _kernel(program, i, i.registers(program), 1, codes)


def _any(dtype: np.dtype) -> Range:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def _buffer(program: Tables, index: int, codes: dict[int, Range]) -> Range:
    return codes.get(program.root(index), _any(numpy_dtype(program.buffers[index].dtype)))


def _is_code(program: Tables, index: int) -> bool:
    return program.buffers[index].kind == "code"


def _constant(program: Tables, ref: Ref) -> Range:
    tensor = program.tensors[program.constants[ref.index].tensor]
    return (int(tensor.min()), int(tensor.max())) if tensor.size else (0, 0)


def _join(*ranges: Range) -> Range:
    return min(r[0] for r in ranges), max(r[1] for r in ranges)


def _kernel(
    program: Tables, i: Vec | Mvm | MvmT, types: Sequence[Operand], first: int, codes: dict[int, Range]
) -> None:
    """The codes that a kernel stores; the `first` registers hold sums."""
    registers: list[Range | None] = [None] * first  # None: not a code

    def range_of(ref: Ref) -> Range | None:
        if ref.space == BUFFER:
            return _buffer(program, ref.index, codes) if _is_code(program, ref.index) else None
        return None if ref.space == CONSTANT else registers[ref.index]

    for step, type_ in zip(i.steps, types[first:], strict=True):
        name = function(step.function).name
        ranges = [r for r in map(range_of, step.args) if r is not None]
        if name == "quant":
            registers.append((int(step.attributes[1]), int(step.attributes[2])))
        elif name in ("quant_by", "quant_dithered"):
            registers.append((int(step.attributes[0]), int(step.attributes[1])))
        elif not ranges or type_.dtype.kind not in "iu":
            registers.append(None)
        elif name in CHOOSING or (name == "pool_max" and _meets_input(step.attributes)):
            fixed = [_constant(program, r) for r in step.args if r.space == CONSTANT and _integer(program, r)]
            registers.append(_join((0, 0), *ranges, *fixed))
        else:
            registers.append(_any(type_.dtype))
    for store in i.stores:
        value = range_of(store.value)
        if value is not None and not _is_code(program, store.dst):
            raise ProgramError(
                f"instruction {i.id} ({i.mnemonic}) stores codes to buffer {store.dst}, which is not of kind code"
            )
        if _is_code(program, store.dst) and value is not None:
            codes[program.root(store.dst)] = value


def _meets_input(attributes: Attributes) -> bool:
    """Whether every pooling window reads at least one element that is not padding."""
    w = windows_of(attributes)
    reach = [d * (k - 1) + 1 for k, d in zip(w.kernel, w.dilations, strict=True)]
    return all(d == 1 for d in w.dilations) and all(p < r for p, r in zip(w.pads, reach * 2, strict=True))


def _integer(program: Tables, ref: Ref) -> bool:
    return program.tensors[program.constants[ref.index].tensor].dtype.kind in "iu"


def _move(program: Tables, move: Move, codes: dict[int, Range]) -> None:
    kind = program.buffers[move.dst].kind
    for k, piece in enumerate(move.pieces):
        if piece.src.space == BUFFER and program.buffers[piece.src.index].kind != kind:
            raise ProgramError(
                f"instruction {move.id} (move): piece {k} copies from kind "
                f"{program.buffers[piece.src.index].kind} to kind {kind}"
            )
    if kind == "code":
        ranges = [
            _buffer(program, p.src.index, codes) if p.src.space == BUFFER else _constant(program, p.src)
            for p in move.pieces
        ]
        codes[program.root(move.dst)] = _join((0, 0), *ranges)
