"""Where batches come from: files, how they fit the inputs, and which samples a step gets."""
