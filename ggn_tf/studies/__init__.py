"""Grids of trainings: the paper's tables."""
