"""Sparse coding's chapter of the report."""
