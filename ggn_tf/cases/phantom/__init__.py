"""Synthetic chest CT."""
