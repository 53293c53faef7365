"""Runs a program: reference interpreter, fast engine, replay of the schedule. Knows nothing but `mgc.isa`."""
