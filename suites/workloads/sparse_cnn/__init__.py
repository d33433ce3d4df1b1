"""Train a small sparse CNN on handwritten digits, and time one and the same trained network on every representation."""
