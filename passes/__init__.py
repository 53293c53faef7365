"""Compiler passes: IR to IR, then mapping, schedule. Import mgc.ir and targets only."""
