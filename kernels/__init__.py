"""Compute on plain tensors and index arrays; nothing here knows a Representation."""
