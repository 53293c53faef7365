"""What functions mean, once for the graph IR and for the instruction set: tables and NumPy. Imports nothing of ours.

A table holds one entry a function: its code in a program, its meaning, its derivative, its ONNX form, its text, and
what passes ask of it. Adding an entry adds the function everywhere (docs/extending.md).
"""
