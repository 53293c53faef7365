"""What goes into a run, and how good what comes out of it is: beside the model, and beside real images."""
