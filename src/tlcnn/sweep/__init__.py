"""Sweeps: grids of runs expanded, planned, launched in waves, recorded and looked at again."""
