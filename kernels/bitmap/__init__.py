"""Multiply with matrices stored as a bit a place beside the packed values of the places that are set."""
