"""Whether training works: a DCGAN trained on Fashion-MNIST by mgc and by PyTorch, and how far their images are from
real ones. `python -m benchmarks.quality.run` measures; docs/quality.md tells what came out.
"""
