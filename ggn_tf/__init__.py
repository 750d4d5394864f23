"""Classify pulmonary ground-glass nodules on chest CT, helped by their own 3D segmentation (Wang et al. 2021)."""

__version__ = "0.1.0"
