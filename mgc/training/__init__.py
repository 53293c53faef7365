"""Everything around the training loop: data, noise, checkpoints, export, pictures. One iteration is the simulator's."""
