"""Sweeps disturbed by what clusters do: real Ray, real files, real training. `python tests/faults` runs all of it and prints a table."""
