"""Prepared datasets on disk, their splits, and the batches that training reads from them."""
