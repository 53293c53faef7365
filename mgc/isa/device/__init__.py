"""Cells as devices: what `device` numerics adds to the arithmetic of crossbars."""
