"""Name operations and patterns in words that need no glossary."""

from __future__ import annotations

import re

OPERATIONS: dict[str, str] = {
    "matmul": "sparse × dense product",
    "rmatmul": "transposed product",
    "sampled_matmul": "gradient at the stored places",
    "matmul_backward": "training step of a product",
    "conv2d": "convolution",
    "conv2d_with": "convolution of sparse activations",
    "conv2d_backward": "training step of a convolution",
    "inference": "inference",
    "training_step": "training step",
    "conv2_step": "training step of layer conv2",
    "conv3_step": "training step of layer conv3",
    "decode": "decoding a sparse code",
    "decode_backward": "decoding with gradients",
    "learn": "learning a dictionary",
    "encode": "encoding",
    "reconstruct": "encoding and decoding",
}
"""Of our own suites; an operation of another package's keeps its name."""


def operation_words(operation: str) -> str:
    """Return what an operation is, as "sparse × dense product"."""
    return OPERATIONS.get(operation, operation.replace("_", " "))


def pattern_words(pattern: str) -> str:
    """Return a pattern's label as people say it: "32×32 blocks", "single elements", "4 of every … 16"."""
    if pattern == "element":
        return "single elements"
    if pattern == "power-law":
        return "elements, uneven rows"
    if found := re.fullmatch(r"n:(\d+)", pattern):
        return f"n of every {found[1]}"
    if found := re.fullmatch(r"(block|plane|channel|filter-channel) (\d+×\d+)", pattern):
        kind, size = found.groups()
        whole = {"block": "blocks", "plane": "planes", "channel": "channels", "filter-channel": "filters and channels"}
        return f"{size} {whole[kind]}"
    return pattern


def joined(names: list[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
