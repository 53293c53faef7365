"""The paper's claim by the model: `python -m benchmarks.paper` compiles, compares, and writes docs/paper.md."""
