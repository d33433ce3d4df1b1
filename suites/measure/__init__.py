"""Measure time, memory and fidelity, and describe the machine."""
