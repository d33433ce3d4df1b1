"""Run a training step, dense or on a representation: forward, and both gradients. Shared by the workloads of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sparsebench.representations.base import Representation
from sparsebench.suites.workloads.problem import Action

Forward = Callable[[Tensor, Tensor], Tensor]
"""What is differentiated: takes the weight, or the stored values, and x."""


def dense(forward: Forward, weight: Tensor, x: Tensor, g: Tensor) -> Action:
    """Return the step on a dense weight: (Y, dW, dX)."""
    leaf, entry = weight.detach().requires_grad_(), x.detach().requires_grad_()

    def step() -> tuple[Tensor, ...]:
        y = forward(leaf, entry)
        return (y, *torch.autograd.grad(y, (leaf, entry), g))

    return step


def sparse(forward: Forward, built: Representation, x: Tensor, g: Tensor) -> Action:
    """Return the step on stored values: (built, Y, dvalues, dX)."""
    inner = dense(forward, built.values, x, g)
    return lambda: (built, *inner())


def outputs(tensor: Tensor, result: Any) -> tuple[Tensor, ...]:
    """Return (Y, dX, dS at the non-zeros of S) of `sparse`; positions that are only fill cannot be judged.

    Args:
        tensor: S, dense.
        result: of the step.
    """
    built, y, values_gradient, x_gradient = result
    weight_gradient = built.with_values(values_gradient).to_dense()
    return y.detach(), x_gradient, torch.where(tensor != 0, weight_gradient, 0)
