"""Define representations whose convolutions are wrong in exactly one way each, and whose products are right."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from wrong_representations import Minimal  # the neighbour file wrong.py, as its tests call it

from sparsebench.representations.base import Representation


class ConvolvesWithoutDilation(Minimal):
    def conv2d(self, x: Tensor, *, stride: Any = (1, 1), padding: Any = (0, 0), dilation: Any = (1, 1)) -> Tensor:
        return super().conv2d(x, stride=stride, padding=padding)


class ConvolvesTransposedMemory(Minimal):
    """Take a channels-last x for a contiguous one."""

    def conv2d(self, x: Tensor, **options: Any) -> Tensor:
        if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
            x = x.permute(0, 2, 3, 1).reshape(x.shape)
        return super().conv2d(x, **options)


class ConvolvesAnyMaps(Minimal):
    """Cut an x of too many maps instead of refusing it."""

    def conv2d(self, x: Tensor, **options: Any) -> Tensor:
        return super().conv2d(x[:, : self.shape[1]], **options)


class ConvolutionHidesAnIndex(Minimal):
    """Keep a second index from the first convolution on, and never count it."""

    def conv2d(self, x: Tensor, **options: Any) -> Tensor:
        self._kept = self.rows()
        return super().conv2d(x, **options)


class ConvolvesIntoItsBuffer(Minimal):
    def conv2d(self, x: Tensor, **options: Any) -> Tensor:
        result = super().conv2d(x, **options)
        return _results.setdefault((result.shape, result.dtype), torch.empty_like(result)).copy_(result)


_results: dict[Any, Tensor] = {}


class ConvolutionFailsOnNoSample(Minimal):
    def conv2d(self, x: Tensor, **options: Any) -> Tensor:
        return torch.cat([Representation.conv2d(self, sample[None], **options) for sample in x])


class InputGradientForgetsTheRest(Minimal):
    """Give no gradient to rows that no window of a stride reaches: cut them off instead of leaving zeros."""

    def conv2d_input(self, g: Tensor, size: Any, *, stride: Any = (1, 1), **options: Any) -> Tensor:
        result = super().conv2d_input(g, size, stride=stride, **options)
        return result[:, :, :-2] if stride[0] == 3 else result


class InputGradientOverwrites(Minimal):
    """Keep the last of overlapping windows instead of their sum, along rows of the kernel."""

    def conv2d_input(self, g: Tensor, size: Any, **options: Any) -> Tensor:
        top = g.clone()
        top[:, :, -1:] = 0
        return super().conv2d_input(g if self.shape[2] == 1 else top, size, **options)


class InputGradientMutatesG(Minimal):
    def conv2d_input(self, g: Tensor, size: Any, **options: Any) -> Tensor:
        result = super().conv2d_input(g, size, **options)
        g.mul_(2)
        return result


class ValuesGradientSwapsPadding(Minimal):
    def conv2d_values(self, g: Tensor, x: Tensor, *, padding: Any = (0, 0), **options: Any) -> Tensor:
        if padding[0] != padding[1]:
            x = x.roll(1, dims=2)
        return super().conv2d_values(g, x, padding=padding, **options)


class ValuesGradientOfOneSample(Minimal):
    def conv2d_values(self, g: Tensor, x: Tensor, **options: Any) -> Tensor:
        return super().conv2d_values(g[:1], x[:1], **options)


class ConvolvesActivationsFlipped(Minimal):
    """Convolve as mathematics does, where networks correlate."""

    def conv2d_with(self, weight: Tensor, **options: Any) -> Tensor:
        return super().conv2d_with(weight.flip(2, 3), **options)


class ConvolvesActivationsSwapped(Minimal):
    def conv2d_with(self, weight: Tensor, *, stride: Any = (1, 1), **options: Any) -> Tensor:
        return super().conv2d_with(weight, stride=(stride[1], stride[0]), **options)


WRONG: dict[type[Minimal], str] = {
    ConvolvesWithoutDilation: "conv2d",
    ConvolvesTransposedMemory: "conv2d",
    ConvolvesAnyMaps: "conv2d",
    ConvolutionHidesAnIndex: "conv2d",
    ConvolvesIntoItsBuffer: "conv2d",
    ConvolutionFailsOnNoSample: "conv2d",
    InputGradientForgetsTheRest: "conv2d_input",
    InputGradientOverwrites: "conv2d_input",
    InputGradientMutatesG: "conv2d_input",
    ValuesGradientSwapsPadding: "conv2d_values",
    ValuesGradientOfOneSample: "conv2d_values",
    ConvolvesActivationsFlipped: "conv2d_with",
    ConvolvesActivationsSwapped: "conv2d_with",
}
"""Each wrong class, and the only check that must fail."""
