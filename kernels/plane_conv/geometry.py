"""Define how a kernel slides over planes: sizes, and where every tap reads."""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """A two-dimensional convolution: y[o] = Σ_{c, i, j} W[o, c, i, j] · x[c] shifted by tap (i, j), zeros outside.

    Attributes:
        kernel: (kh, kw), rows and columns of taps.
        stride: of the output places in x, down and across.
        padding: rows and columns of zeros around x, on each side.
        dilation: distance of neighbouring taps in x.

    Raises:
        ValueError: if a number is out of range.
    """

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def __post_init__(self) -> None:
        for name, least in (("kernel", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
            pair = getattr(self, name)
            if not (isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(n, int) for n in pair)):
                raise ValueError(f"expected {name} as two ints (down, across), got {pair!r}; write (n, n)")
            if min(pair) < least:
                raise ValueError(f"expected {name} of at least {least} down and across, got {pair}")

    @property
    def taps(self) -> int:
        """Return kh · kw."""
        return self.kernel[0] * self.kernel[1]

    def output(self, size: Pair) -> Pair:
        """Return (h', w') for planes of `size` (h, w).

        Raises:
            ValueError: if the kernel does not fit into the padded plane.
        """
        down, across = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1 if n + 2 * p >= d * (k - 1) + 1 else 0
            for n, p, d, k, s in zip(size, self.padding, self.dilation, self.kernel, self.stride, strict=True)
        )
        if down < 1 or across < 1:
            raise ValueError(
                f"expected planes of at least the kernel's extent, got planes {size} for kernel {self.kernel}, padding "
                f"{self.padding}, dilation {self.dilation}; pad more"
            )
        return down, across

    def offsets(self) -> tuple[Pair, ...]:
        """Return for every tap, row-major, where it reads x for the output at (0, 0): below 0 is padding."""
        return tuple(
            (i * self.dilation[0] - self.padding[0], j * self.dilation[1] - self.padding[1])
            for i in range(self.kernel[0])
            for j in range(self.kernel[1])
        )
