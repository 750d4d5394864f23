"""Predictions about the nodules of one CT, and how they are written."""
