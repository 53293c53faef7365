"""Tensor level: batches split, constants folded."""
