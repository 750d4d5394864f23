"""A version in memory that answers requests."""
