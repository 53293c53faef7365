"""Finding the diff-blocks of a loss: what the fuse-loss pass is made of."""
