"""Data movement as address arithmetic: strided views, index patterns, and the pieces of a `Copy`."""
