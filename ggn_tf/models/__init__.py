"""The networks: one readable builder each, made of exact fast layers."""
