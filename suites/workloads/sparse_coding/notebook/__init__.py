"""Reproduce the notebook: the conserved-flow network, image by image and on batches."""
