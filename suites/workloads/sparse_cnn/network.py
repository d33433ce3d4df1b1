"""Build the small CNN: three convolutions, of which two can be pruned, and a linear classifier on the maps' means."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from statistics import NormalDist

import torch
from torch import Tensor, nn

from sparsebench.suites.workloads.sparse_cnn.activity import Winners

CLASSES = 10
SIDE = 28
CONVOLUTIONS: tuple[str, ...] = ("conv1", "conv2", "conv3")
PRUNABLE: tuple[str, ...] = ("conv2", "conv3")
"""The first layer has one input map and 1 to 2 % of the weights, and stays dense, as the classifier does."""
HIDDEN: tuple[str, ...] = ("active1", "active2", "active3")
KERNELS: tuple[tuple[int, int], ...] = ((5, 2), (3, 2), (3, 1))
"""Kernel and stride of each convolution: 28² -> 12² -> 5² -> 3² places. Strides do what pooling would, for less."""


def build(
    maps: tuple[int, int, int], winners: float, generator: torch.Generator, rho: float | None = None
) -> nn.Sequential:
    """Build the network for images (n, 1, 28, 28) -> logits (n, 10), in channels-last order, with He's random weights.

    Args:
        maps: of the three convolutions.
        winners: share of planes that each sample keeps behind each of them.
        generator: of the weights.
        rho: share of the activations that are to be non-zero at the start, through the normalisations' biases, the
            normal distribution's quantile of rho; None leaves them at zero, for a half.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.random.fork_rng(devices=[]):  # torch fills layers from the global generator first
        for number, (out, below, (kernel, stride)) in enumerate(zip(maps, (1, *maps), KERNELS, strict=False), 1):
            parts[f"conv{number}"] = nn.Conv2d(below, out, kernel, stride, bias=False)
            parts[f"norm{number}"] = norm = nn.BatchNorm2d(out)
            if rho is not None:
                nn.init.constant_(norm.bias, NormalDist().inv_cdf(rho))
            parts[f"active{number}"] = Winners(winners)
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten()
        parts["classifier"] = nn.Linear(maps[-1], CLASSES)
    net = nn.Sequential(parts)
    for name in CONVOLUTIONS:
        nn.init.kaiming_normal_(weight(net, name), nonlinearity="relu", generator=generator)
    nn.init.normal_(weight(net, "classifier"), std=maps[-1] ** -0.5, generator=generator)
    nn.init.zeros_(net.get_parameter("classifier.bias"))
    return channels_last(net)


def channels_last(net: nn.Sequential) -> nn.Sequential:
    """Lay the weights of convolutions out with channels last, in place, and return the network."""
    for part in net.parameters():
        if part.dim() == 4:
            part.data = last(part.data)
    return net


def last(x: Tensor) -> Tensor:
    """Return images or weights (n, c, h, w) laid out with channels last.

    With one channel both orders are the same to torch, which then takes the slower one: a training step takes 1.4 times
    as long. So the strides are written out.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    if x.shape[1] > 1:
        return x
    height, width = x.shape[2:]
    return x.contiguous().as_strided(x.shape, (height * width, 1, width, 1), x.storage_offset())


def weight(net: nn.Module, name: str) -> nn.Parameter:
    """Return a layer's weight."""
    return net.get_parameter(f"{name}.weight")


def initial_scale(tensor: Tensor) -> float:
    """Return the standard deviation of He's random weights (out, in, kh, kw): √(2 / (in·kh·kw))."""
    return math.sqrt(2.0 / tensor[0].numel())


def with_hidden(net: nn.Sequential, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the logits (n, 10), and the activations (n, c, h, w) behind each convolution."""
    hidden = []
    for name, part in net.named_children():
        x = part(x)
        if name in HIDDEN:
            hidden.append(x)
    return x, hidden


def folded(net: nn.Sequential) -> nn.Sequential:
    """Return the network for inference: batch normalisation folded into weights and biases, zeros where they were."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for name, part in net.named_children():
        if isinstance(part, nn.BatchNorm2d):
            continue
        if isinstance(part, nn.Conv2d):
            parts[name] = _folded(part, net.get_submodule(name.replace("conv", "norm")))
        elif isinstance(part, nn.Linear):
            parts[name] = nn.Linear(part.in_features, part.out_features)
            parts[name].load_state_dict(part.state_dict())
        else:
            parts[name] = part
    return nn.Sequential(parts).eval().requires_grad_(False)


def _folded(conv: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    """Return the convolution with y = γ (conv x − μ)/√(σ² + ε) + β in it."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        raise TypeError(f"expected a batch normalisation behind every convolution, got {norm!r}")
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    out = nn.Conv2d(conv.in_channels, conv.out_channels, conv.weight.shape[2], conv.stride[0])
    with torch.no_grad():
        out.weight.copy_(conv.weight * scale[:, None, None, None])
        if out.bias is not None:
            out.bias.copy_(norm.bias - norm.running_mean * scale)
    return out


def parameters(maps: tuple[int, int, int], absent: int = 0) -> int:
    """Return how many numbers the folded network stores: weights, less the absent ones, and biases."""
    weights = sum(out * below * kernel**2 for out, below, (kernel, _) in zip(maps, (1, *maps), KERNELS, strict=False))
    return weights - absent + sum(maps) + CLASSES * (maps[-1] + 1)


def narrowed(maps: tuple[int, int, int], target: int) -> tuple[int, int, int]:
    """Return maps in about the same proportion whose network stores the fewest parameters that are at least `target`.

    The last two may each lie up to two maps off the proportion, so that the numbers meet within about a percent.
    """
    best = maps
    for first in range(1, maps[0] + 1):
        second, third = (max(1, round(first * count / maps[0])) for count in maps[1:])
        for tried in ((first, second + a, third + b) for a in range(-2, 3) for b in range(-2, 3)):
            if min(tried) >= 1 and target <= parameters(tried) < parameters(best):
                best = tried
    return best


def densities(net: nn.Sequential) -> Mapping[str, tuple[float, float]]:
    """Return, by layer, the share of non-zero weights and that of planes with any; the classifier's planes are 1×1."""
    found = {}
    for name in (*CONVOLUTIONS, "classifier"):
        stored = weight(net, name).detach() != 0
        planes = stored.flatten(2).any(2) if stored.dim() == 4 else stored
        found[name] = float(stored.double().mean()), float(planes.double().mean())
    return found
