"""Scheduling proper: operations repeated over micro-batches on units; knows nothing of graphs or chips."""
