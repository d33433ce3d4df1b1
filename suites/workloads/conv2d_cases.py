"""List what the conv2d suite measures: layers, patterns of planes, and the cases of each profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import Case, cases_of

SUITE = "conv2d"
FORWARD = "conv2d"
BACKWARD = "conv2d_backward"
WITH = "conv2d_with"
BATCH = 8
QUICK_BATCH = 2
"""Enough to tell maps that a batch shares from maps of each sample; with 8 a quick run would take minutes more."""
GPU_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution (out, in, kernel, kernel) and the input that it meets; padded so that stride 1 keeps the size.

    Attributes:
        name: where it comes from.
        out: output maps.
        maps: input maps.
        side: height and width of the input.
        kernel: height and width of the kernel, odd.
        stride: in both directions.
    """

    name: str
    out: int
    maps: int
    side: int
    kernel: int = 3
    stride: int = 1

    @property
    def padding(self) -> int:
        """Return the zeros around the input, on each side."""
        return self.kernel // 2

    def shape(self, batch: int) -> tuple[int, ...]:
        """Return (out, in, kh, kw, n, h, w), h and w of the input."""
        return self.out, self.maps, self.kernel, self.kernel, batch, self.side, self.side


RESNET = Layer(name="ResNet-34 conv4 3×3", out=256, maps=256, side=14)
VGG = Layer(name="VGG-16 conv3 3×3", out=256, maps=256, side=28)
WIDE = Layer(name="VGG-16 conv5 3×3", out=512, maps=512, side=14)
STRIDED = Layer(name="ResNet-34 conv5 3×3 stride 2", out=512, maps=256, side=28, stride=2)
POINTS = Layer(name="ResNet-50 conv4 1×1", out=256, maps=1024, side=14, kernel=1)
LAYERS: dict[str, Layer] = {layer.name: layer for layer in (RESNET, VGG, WIDE, STRIDED, POINTS)}
"""Simonyan and Zisserman 2014 and He et al. 2015, table 1 of each. VGG's conv3 is met at 28² as for images of 112²,
conv5_1 of ResNet-34 as for images of 448²."""

SHARED_LEVELS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
"""Of maps that are absent for every output: the break-even is expected among the lowest."""
FILTER_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)
LEVELS = (0.5, 0.7, 0.8, 0.9, 0.95)
ELEMENT_LEVELS = (0.8, 0.9, 0.95, 0.98)
WITH_LEVELS = (0.5, 0.8, 0.9, 0.95)


def shared(layer: Layer) -> Pattern:
    """Return whole input maps, the same for every output map."""
    return Pattern(kind="channel", block=(1, layer.kernel**2))


def filters(layer: Layer) -> Pattern:
    """Return whole input maps and whole output maps."""
    return Pattern(kind="filter-channel", block=(1, layer.kernel**2))


def pairs(layer: Layer) -> Pattern:
    """Return random pairs of an output and an input map."""
    return Pattern(kind="plane", block=(1, layer.kernel**2))


def squares(layer: Layer, size: int = 32) -> Pattern:
    """Return blocks of `size` output by `size` input maps."""
    return Pattern(kind="block", block=(size, size * layer.kernel**2))


def per_sample(layer: Layer) -> Pattern:
    """Return random maps of the input (n, in·h·w), other ones for each sample."""
    return Pattern(kind="plane", block=(1, layer.side**2))


ELEMENT = Pattern(kind="element")


def cases(profile: str) -> list[Case]:
    """Return the cases of a profile; those of one tensor and one operation stand next to each other.

    - quick: one layer, 256 → 256 maps of 14² in a batch of 2: every pattern once where it is asked to pay, activations
      per sample, and one training step. What is slow on most representations (half of the maps or fewer absent,
      training on pairs) is left to full.
    - full: a batch of 8; the same maps at 14² and 28² with all levels and training; wider, strided and 1×1 layers at a
      few.
    - gpu: the same layers in a batch of 32, bfloat16, the most telling first.

    Raises:
        ValueError: if the profile is unknown.
    """
    return cases_of(profile, {"quick": _quick, "full": _full, "gpu": _gpu})


def _quick() -> list[Case]:
    return [
        *_grid(RESNET, shared(RESNET), (0.9,), batch=QUICK_BATCH),
        *_telling(RESNET, batch=QUICK_BATCH),
        *_grid(RESNET, shared(RESNET), (0.9,), BACKWARD, batch=QUICK_BATCH),
    ]


def _telling(layer: Layer, dtype: str = "float32", batch: int = BATCH) -> list[Case]:
    """Return what else tells most of a layer, one case each."""
    found = _grid(layer, filters(layer), (0.8,), FORWARD, dtype, batch)
    if layer.kernel > 1:  # a plane of one element is an element
        found += _grid(layer, pairs(layer), (0.9,), FORWARD, dtype, batch)
    found += _grid(layer, squares(layer), (0.9,), FORWARD, dtype, batch)
    found += _grid(layer, ELEMENT, (0.9,), FORWARD, dtype, batch)
    return found + _grid(layer, per_sample(layer), (0.9,), WITH, dtype, batch)


def _full() -> list[Case]:
    found: list[Case] = []
    for layer in (RESNET, VGG):
        found += _grid(layer, shared(layer), SHARED_LEVELS)
        found += _grid(layer, filters(layer), FILTER_LEVELS)
        found += _grid(layer, pairs(layer), LEVELS)
        found += _grid(layer, squares(layer), LEVELS)
        found += _grid(layer, ELEMENT, ELEMENT_LEVELS)
        found += _grid(layer, per_sample(layer), WITH_LEVELS, WITH)
        for pattern in (shared(layer), pairs(layer), squares(layer)):
            found += _grid(layer, pattern, (0.5, 0.9), BACKWARD)
        found += _grid(layer, filters(layer), (0.8,), BACKWARD)
        found += _grid(layer, ELEMENT, (0.9,), BACKWARD)
    for layer in (WIDE, STRIDED, POINTS):
        found += _grid(layer, shared(layer), (0.5, 0.9))
        found += _telling(layer)
    return found


def _gpu() -> list[Case]:
    """Return one case of everything on each layer first, then training, then lower levels, then float16."""
    found: list[Case] = []
    for layer in (VGG, RESNET, WIDE):
        found += _grid(layer, shared(layer), (0.9,), dtype="bfloat16", batch=GPU_BATCH)
        found += _telling(layer, dtype="bfloat16", batch=GPU_BATCH)
    for pattern in (shared(VGG), pairs(VGG), squares(VGG)):
        found += _grid(VGG, pattern, (0.9,), BACKWARD, dtype="bfloat16", batch=GPU_BATCH)
    found += _grid(VGG, shared(VGG), (0.1, 0.2, 0.5), dtype="bfloat16", batch=GPU_BATCH)
    found += _grid(VGG, pairs(VGG), (0.95,), dtype="bfloat16", batch=GPU_BATCH)
    found += _grid(VGG, squares(VGG), (0.5,), dtype="bfloat16", batch=GPU_BATCH)
    found += _grid(VGG, shared(VGG), (0.9,), dtype="float16", batch=GPU_BATCH)
    return found + _telling(VGG, dtype="float16", batch=GPU_BATCH)


def _grid(
    layer: Layer,
    pattern: Pattern,
    levels: Sequence[float],
    operation: str = FORWARD,
    dtype: str = "float32",
    batch: int = BATCH,
) -> list[Case]:
    return [
        Case(
            suite=SUITE,
            workload=layer.name,
            operation=operation,
            shape=layer.shape(batch),
            pattern=pattern,
            sparsity=sparsity,
            dtype=dtype,
        )
        for sparsity in levels
    ]
