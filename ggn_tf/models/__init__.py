"""The networks of the paper as Keras functional models."""
