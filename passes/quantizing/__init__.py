"""How real values become codes: signs, scales, rounding, tables, and the rewriting of the graph."""
