"""A server of MONAI Label's protocol, through which 3D Slicer and OHIF use a model."""
