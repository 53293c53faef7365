"""All instructions, one file a family."""

from mgc.isa.instructions.data import Host, Load, Move, Piece, Store
from mgc.isa.instructions.diff import Diff
from mgc.isa.instructions.mvm import Mvm, Rewrite, WriteCells
from mgc.isa.instructions.training import MvmT, Outer, Update
from mgc.isa.instructions.vec import Result, Step, Vec
from mgc.isa.memory import BUFFER, CONSTANT, REGISTER, Ref

__all__ = [
    "BUFFER", "CONSTANT", "REGISTER", "Diff", "Host", "Load", "Move", "Mvm", "MvmT", "Outer", "Piece", "Ref", "Result",
    "Rewrite", "Step", "Store", "Update", "Vec", "WriteCells",
]  # fmt: skip
