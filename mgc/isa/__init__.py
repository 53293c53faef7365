"""The program: instructions, memory map, crossbar groups, schedule, file format, assembler. Imports nothing else of mgc."""
