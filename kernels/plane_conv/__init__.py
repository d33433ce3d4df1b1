"""Convolve with weights or activations of which only some planes, blocks or elements are stored."""
