"""Clients of a model server, and the check of a server against an export; without TensorFlow."""
