"""Losses, stages, the loop, and the run folder that survives being killed."""
