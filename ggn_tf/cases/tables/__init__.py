"""Case tables: reading them, and what is wrong with their rows."""
