"""The wire: names, tensors, messages and checksums."""
