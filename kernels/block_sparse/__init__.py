"""Multiply with matrices stored as dense blocks."""
