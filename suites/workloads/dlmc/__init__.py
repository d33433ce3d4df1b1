"""Time the Deep Learning Matrix Collection: the zeros of networks that were really pruned, beside their quality."""
