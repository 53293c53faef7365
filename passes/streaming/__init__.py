"""Which work of a batch can be done part by part, and what has to wait for all of it."""
