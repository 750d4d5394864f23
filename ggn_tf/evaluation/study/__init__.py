"""The paper's whole experiment: every system, task, split and repeat, each a cell that is done once."""
