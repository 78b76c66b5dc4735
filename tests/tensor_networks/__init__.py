"""Whole networks of two and three layers by another scheme, in tensors: what the engine is checked against."""
