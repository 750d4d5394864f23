"""Case tables, CT volumes, masks and patches: everything before TensorFlow."""
