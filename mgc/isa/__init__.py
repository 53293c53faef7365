"""The program: instructions, memory map, crossbar groups, schedule, file, assembler. Imports nothing else of mgc."""
