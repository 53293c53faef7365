"""A program as readable text, and back to the same bytes.

The text holds everything but the tensors' data; those it names, with element type, shape and SHA-256, and it says in
which `.mgc` file they are.
"""

from mgc.isa.asm.parser import assemble
from mgc.isa.asm.printer import disassemble

__all__ = ["assemble", "disassemble"]
