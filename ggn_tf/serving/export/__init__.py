"""From a run to a SavedModel version directory."""
