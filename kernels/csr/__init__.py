"""Multiply with matrices stored element by element, in compressed sparse rows."""
