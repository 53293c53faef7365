"""The graph IR: types, ops, graph, verifier, text form. Imports nothing else of mgc."""
