"""List what the matmul suite measures: layers, patterns, and the cases of each profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import Case, cases_of

SUITE = "matmul"
FORWARD = "matmul"
BACKWARD: tuple[str, ...] = ("rmatmul", "sampled_matmul", "matmul_backward")
"""The products of a training step beyond the forward one, each alone, and then the whole step."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A weight (m, k) and how many columns it meets.

    Attributes:
        name: where it comes from.
        shape: (m, k, n).
    """

    name: str
    shape: tuple[int, int, int]


ATTENTION = Layer(name="transformer attention 512×512", shape=(512, 512, 128))
MLP = Layer(name="transformer MLP 2048×512", shape=(2048, 512, 128))
CONV3 = Layer(name="ResNet-50 conv3 1×1", shape=(128, 512, 784))
CONV4 = Layer(name="ResNet-50 conv4 1×1", shape=(256, 1024, 196))
"""He et al. 2015, table 1: the first 1×1 convolution of a conv3 (28² places) and a conv4 (14² places) bottleneck."""


def square(side: int, columns: int | None = None) -> Layer:
    """Return a square weight that meets so many columns, by default as many as it has itself."""
    return Layer(name=f"square {side}", shape=(side, side, side if columns is None else columns))


def columns(layer: Layer, n: int) -> Layer:
    """Return the layer with so many columns."""
    return Layer(name=layer.name, shape=(*layer.shape[:2], n))


YARDSTICK = square(2048, 1024)
"""Large enough that a kernel's own speed shows on a few cores, and small enough to be timed there."""
NARROW: tuple[Layer, ...] = (square(2048, 1), square(2048, 16))
"""The same weight where memory decides: a single vector, and a small batch."""


def blocks(*sizes: int) -> tuple[Pattern, ...]:
    """Return patterns of square blocks."""
    return tuple(Pattern(kind="block", block=(size, size)) for size in sizes)


ELEMENT = Pattern(kind="element")
POWER_LAW = Pattern(kind="power-law")
(BLOCK,) = blocks(32)
PLANE = Pattern(kind="plane", block=(1, 16))
CHANNEL = Pattern(kind="channel", block=(1, 16))
PAIRS = Pattern(kind="n:m", m=4)
GROUPS = Pattern(kind="n:m", m=16)

QUICK_COLUMNS = (1, 16, 128)
"""At which 2048², which a core's cache does not hold, is met; a vector is where sparse should win the most."""
FULL_COLUMNS = (1, 4, 16, 128, 1024)
QUICK_LEVELS = (0.5, 0.8, 0.9, 0.97)
QUICK_ENDS = (0.5, 0.9)
QUICK_ONE = (0.9,)
FULL_LEVELS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
GROUP_LEVELS = {4: (0.5, 0.75), 16: (0.5, 0.875, 0.9375, 0.75)}
"""Sparsities that n:4 and n:16 can have, the ones that a short profile needs first."""
GPU_LAYERS: tuple[Layer, ...] = (square(8192), square(4096), square(4096, 16), square(2048), square(1024))
GPU_BLOCKS: tuple[Pattern, ...] = blocks(128, 64, 32, 16)
WIDE = Layer(name="Llama-2-70B down 8192×28672", shape=(8192, 28672, 1))
"""Touvron et al. 2023, table 1 and the released weights: the second matrix of its feed-forward layers."""


def cases(profile: str) -> list[Case]:
    """Return the cases of a profile; those of one matrix and one operation stand next to each other.

    - quick: all patterns on one layer, those that a break-even is asked of at several levels; blocks on a second; the
      backward products and training on blocks.
    - full: all patterns on all layers, blocks of five sizes, training on all patterns of one layer; a square layer
      with all products; and two sizes that meet 1 to 1,024 columns, in bfloat16 too.
    - gpu: square layers up to 8192 in bfloat16 and float16, the most telling first, since it may be cut off; then
      single elements on up to 64 columns, which `.ci/gpu narrow` takes alone.

    Raises:
        ValueError: if the profile is unknown.
    """
    return cases_of(profile, {"quick": _quick, "full": _full, "gpu": _gpu})


def _quick() -> list[Case]:
    return [
        *_grid(ATTENTION, (ELEMENT, BLOCK), QUICK_LEVELS),
        *_grid(ATTENTION, (CHANNEL,), QUICK_ENDS),
        *_grid(ATTENTION, (POWER_LAW, PLANE), QUICK_ONE),
        *_grid(ATTENTION, (GROUPS,), QUICK_ENDS),
        *(case for n in (1, 16) for case in _grid(columns(ATTENTION, n), (ELEMENT, BLOCK), QUICK_ENDS)),
        *(case for n in QUICK_COLUMNS for case in _grid(square(2048, n), (ELEMENT, BLOCK), QUICK_ENDS)),
        *(case for operation in reversed(BACKWARD) for case in _grid(ATTENTION, (BLOCK,), QUICK_ONE, operation)),
    ]


def _full() -> list[Case]:
    patterns = (ELEMENT, POWER_LAW, *blocks(8, 16, 32, 64, 128), PLANE, CHANNEL, PAIRS, GROUPS)
    forward = [case for layer in (ATTENTION, MLP, CONV3, CONV4) for case in _grid(layer, patterns, FULL_LEVELS)]
    narrow = [
        case
        for dtype in ("float32", "bfloat16")
        for layer in (ATTENTION, square(2048))
        for n in FULL_COLUMNS
        for case in _grid(columns(layer, n), (ELEMENT, BLOCK), (0.5, 0.8, 0.9, 0.95), dtype=dtype)
    ]
    backward = _grid(ATTENTION, patterns, FULL_LEVELS, "matmul_backward")
    return list(dict.fromkeys([*forward, *backward, *_yardstick(), *narrow]))


def _yardstick() -> list[Case]:
    found = _grid(YARDSTICK, (*blocks(16, 32, 64, 128), ELEMENT, POWER_LAW), (0.5, 0.8, 0.9, 0.95, 0.98))
    for operation in BACKWARD:
        found += _grid(YARDSTICK, blocks(32, 64), (0.8, 0.9, 0.95), operation)
        found += _grid(YARDSTICK, (ELEMENT,), (0.9, 0.98), operation)
    for layer in NARROW:
        found += _grid(layer, blocks(16, 32, 64, 128), (0.9,))
        found += _grid(layer, (ELEMENT,), (0.8, 0.9, 0.98))
    return found


def _gpu() -> list[Case]:
    """Return every layer at 90 % first, then training, then the other levels; float16 repeats the first of these.

    Single elements are there for csr. n:4 is there for torch-semi-structured, which holds nothing else.
    """
    found = [case for layer in GPU_LAYERS for case in _grid(layer, GPU_BLOCKS, (0.9,), dtype="bfloat16")]
    found += _grid(square(4096, 1), (*blocks(64, 16), ELEMENT), (0.9,), dtype="bfloat16")
    found += _grid(square(4096, 16), (ELEMENT,), (0.9,), dtype="bfloat16")
    found += _grid(square(2048), (ELEMENT,), (0.9, 0.98), dtype="bfloat16")
    found += _grid(square(4096), blocks(128, 64, 32), (0.9,), "matmul_backward", dtype="bfloat16")
    found += _grid(square(4096), (PAIRS,), (0.5,), dtype="bfloat16")
    for level in (0.8, 0.95):
        found += [case for layer in GPU_LAYERS for case in _grid(layer, GPU_BLOCKS, (level,), dtype="bfloat16")]
    found += [case for layer in GPU_LAYERS for case in _grid(layer, GPU_BLOCKS, (0.9,), dtype="float16")]
    # at half of the elements nothing is expected to win, and cuSPARSE takes the longest: these can be spared
    found += [case for layer in reversed(GPU_LAYERS) for case in _grid(layer, GPU_BLOCKS, (0.5,), dtype="bfloat16")]
    return list(dict.fromkeys([*found, *_narrow()]))


def _narrow() -> list[Case]:
    """Return single elements at the sparsities of pruned networks, on few columns, where bytes decide.

    As decoding a language model is: 4096² to 8192×28672. A vector comes first, then more columns at one level.
    """
    found = []
    for dtype, levels in (("float16", (0.3, 0.4, 0.5, 0.7, 0.9, 0.95)), ("bfloat16", (0.3, 0.5, 0.7))):
        for layer in (square(4096, 1), square(8192, 1)):
            found += _grid(layer, (ELEMENT,), levels, dtype=dtype)
    found += _grid(WIDE, (ELEMENT,), (0.3, 0.5, 0.7, 0.9), dtype="float16")
    for n in (16, 4, 64, 8, 2, 32):
        for side in (4096, 8192):
            found += _grid(square(side, n), (ELEMENT,), (0.5, 0.7), dtype="float16")
    for layer in (square(4096, 16), square(8192, 16)):
        found += _grid(layer, (ELEMENT,), (0.5,), dtype="bfloat16")
    return found + [case for n in (4, 16, 64) for case in _grid(columns(WIDE, n), (ELEMENT,), (0.5,), dtype="float16")]


def _grid(
    layer: Layer,
    patterns: Sequence[Pattern],
    levels: tuple[float, ...],
    operation: str = FORWARD,
    dtype: str = "float32",
) -> list[Case]:
    return [
        Case(
            suite=SUITE,
            workload=layer.name,
            operation=operation,
            shape=layer.shape,
            pattern=pattern,
            sparsity=sparsity,
            dtype=dtype,
        )
        for pattern in patterns
        for sparsity in (levels if pattern.m is None else GROUP_LEVELS[pattern.m][: len(levels)])
    ]
