"""From a level-1 training step to the level-2 dataflow over crossbar groups: forward, transposed reads, gradients."""
