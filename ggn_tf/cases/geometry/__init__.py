"""Grids, alignment and parts of masks."""
