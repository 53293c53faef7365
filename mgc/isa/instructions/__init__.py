"""All instructions, one file a family."""

from mgc.isa.instructions.data import Host, Load, Move, Piece, Store
from mgc.isa.instructions.diff import Diff
from mgc.isa.instructions.mvm import Mvm, Program
from mgc.isa.instructions.training import MvmT, Outer, Update
from mgc.isa.instructions.vec import BUFFER, CONSTANT, REGISTER, Ref, Step, Vec
from mgc.isa.instructions.vec import Store as VecStore

__all__ = [
    "BUFFER", "CONSTANT", "REGISTER", "Diff", "Host", "Load", "Move", "Mvm", "MvmT", "Outer", "Piece", "Program", "Ref",
    "Step", "Store", "Update", "Vec", "VecStore",
]  # fmt: skip
