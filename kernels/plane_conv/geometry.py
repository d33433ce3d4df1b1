"""Define how a kernel slides over planes: sizes, and where every tap reads."""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[int, int]
"""(rows, columns) of a stride, a padding, a dilation or a size."""


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
            if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(type(part) is int for part in pair):
                raise ValueError(f"expected {name} as a pair of ints (rows, columns), got {pair!r}; write both")
            if min(pair) < least:
                raise ValueError(f"expected {name} of at least ({least}, {least}), got {tuple(pair)}; enlarge it")
            object.__setattr__(self, name, tuple(pair))

    @property
    def taps(self) -> int:
        """Return kh · kw."""
        return self.kernel[0] * self.kernel[1]

    def output(self, size: Pair) -> Pair:
        """Return (h', w') for planes (h, w): ⌊(size + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1.

        Raises:
            ValueError: if the kernel does not fit into the padded plane.
        """
        found = []
        for place in (0, 1):
            reach = self.dilation[place] * (self.kernel[place] - 1) + 1
            padded = size[place] + 2 * self.padding[place]
            if padded < reach:
                raise ValueError(
                    f"expected an input of at least {reach} in {('height', 'width')[place]}, as a kernel {self.kernel} "
                    f"of dilation {self.dilation} reaches, got {padded} with its padding; pad it more"
                )
            found.append((padded - reach) // self.stride[place] + 1)
        return found[0], found[1]
