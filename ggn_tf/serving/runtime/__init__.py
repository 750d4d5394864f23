"""Load a version and run requests through it."""
