"""Weights that training changes: how the entries of a program share them on crossbars."""
