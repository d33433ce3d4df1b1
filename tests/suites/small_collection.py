"""Write a small collection as the published one is laid out."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

MATRICES: dict[str, tuple[int, int, float]] = {
    "rn50/magnitude_pruning/0.5/bottleneck_2_block_group1_1_1": (19, 37, 0.5),
    "rn50/magnitude_pruning/0.9/bottleneck_2_block_group1_1_1": (19, 37, 0.1),
    "rn50/random_pruning/0.9/final_dense": (11, 64, 0.1),
    "transformer/magnitude_pruning/0.5/body_encoder_layer_0_ffn_conv1": (40, 24, 0.5),
    "transformer/variational_dropout/0.9/symbol_modality_70_16_shared_weights_0_aux": (70, 16, 0.1),
}
"""Rows, columns and density by name."""
QUALITIES = {
    "rn50/magnitude_pruning/0.5": "76.53", "rn50/magnitude_pruning/0.9": "73.91", "rn50/random_pruning/0.9": "65",
    "rn50/variational_dropout/0.9": "73.84", "transformer/magnitude_pruning/0.5": "26.33",
    "transformer/variational_dropout/0.9": "73.84",
}  # fmt: skip
"""As published: the transformer's last one is ResNet-50's accuracy."""


def text_of(mask: np.ndarray) -> str:
    """Return a matrix as a file of the collection has it, blanks at the ends of its lines included."""
    rows, columns = mask.shape
    offsets = np.concatenate([[0], np.cumsum(mask.sum(1))])
    lines = (f"{rows}, {columns}, {mask.sum()}", " ".join(map(str, offsets)), " ".join(map(str, mask.nonzero()[1])))
    return "".join(f"{line} \n" for line in lines)


def mask_of(name: str) -> np.ndarray:
    """Return where the non-zeros of a matrix are: a row without any, and one that is full."""
    rows, columns, density = MATRICES[name]
    mask = np.random.default_rng(len(name)).random((rows, columns)) < density
    mask[rows // 2] = False
    mask[rows // 3] = True
    return mask


def write_collection(root: Path, *, zipped: bool = False) -> Path:
    """Write all of it and return the folder."""
    for name in MATRICES:
        path = root / f"{name}.smtx"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text_of(mask_of(name)), encoding="utf-8")
    (root / "rn50_batchsizes.txt").write_text("bottleneck_2_block_group1_1_1,49\nfinal_dense,1\n", encoding="utf-8")
    table = "model,quality,path,name\n" + "".join(
        f"{network.split('/')[0]},{quality},dlmc/{network}/some_matrix.smtx,some\n"
        for network, quality in QUALITIES.items()
    )
    if zipped:
        (root / "dlmc.csv.gz").write_bytes(gzip.compress(table.encode()))
    else:
        (root / "dlmc.csv").write_text(table, encoding="utf-8")
    return root
