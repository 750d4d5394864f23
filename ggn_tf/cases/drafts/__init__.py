"""A first case table, drafted from a folder of CTs and masks."""
