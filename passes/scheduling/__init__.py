"""Time and memory of an entry: what of a run may overlap, when each operation starts, in which bytes values lie."""
