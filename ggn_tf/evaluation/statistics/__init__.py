"""From a predictions table to numbers; never TensorFlow."""
