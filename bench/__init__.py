"""Figures, measured: `make bench` runs what is here and prints a table."""
