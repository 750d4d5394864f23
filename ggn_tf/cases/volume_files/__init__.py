"""Headers and voxels of volume files by their format: NIfTI, NRRD and MetaImage."""
