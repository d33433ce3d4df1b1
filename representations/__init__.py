"""Store tensors that are mostly zeros, each representation in one way."""
