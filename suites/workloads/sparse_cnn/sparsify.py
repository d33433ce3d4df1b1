"""Keep the weights of a network on their budget during training: magnitude pruning, group lasso, RigL."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparsebench.suites.workloads.sparse_cnn import rigl
from sparsebench.suites.workloads.sparse_cnn.group_lasso import shrink
from sparsebench.suites.workloads.sparse_cnn.network import PRUNABLE, initial_scale, weight
from sparsebench.suites.workloads.sparse_cnn.settings import Settings
from sparsebench.suites.workloads.sparse_cnn.units import Kept, choose, draw, expand, norms, unit_shape, unit_size

MOMENTS: dict[str, int] = {"magnitude": 50, "rigl": 16}
"""How many times the choice of units is changed during a training, evenly spread. What RigL moves has to grow before it
is judged again."""
PRUNE_FROM, PRUNE_UNTIL = 0.1, 0.6
"""Shares of the training between which magnitude pruning drops units; then they stay, and the rest is fine-tuned."""
PULL = 2.0
"""Strength of the group lasso: by PRUNE_UNTIL, a unit of initial size that no gradient holds has been shrunk by so many
times its length. It does not depend on how long the training is."""


def pruned(progress: float, sparsity: float) -> float:
    """Return the share of absent units at a share of the training: s·(1 − (1 − p)³), p from 0 to 1 while pruning.

    Zhu and Gupta 2017, To prune, or not to prune, eq. 1.
    """
    p = min(1.0, max(0.0, (progress - PRUNE_FROM) / (PRUNE_UNTIL - PRUNE_FROM)))
    return sparsity * (1.0 - (1.0 - p) ** 3)


class Sparsifier:
    """What the methods do in every training step; its state is `kept` alone.

    Attributes:
        kept: by prunable layer, which units are stored.
        masks: the same for every weight, as 0 and 1.
    """

    def __init__(self, net: nn.Module, settings: Settings, steps: int, generator: torch.Generator) -> None:
        self._weights = {name: weight(net, name) for name in PRUNABLE}
        self._settings, self._steps = settings, steps
        self._every = max(1, steps // MOMENTS.get(settings.method, 1))
        grids = {name: unit_shape(tuple(layer.shape), settings.pattern) for name, layer in self._weights.items()}
        self.masks: dict[str, Tensor] = {}
        start = settings.sparsity if settings.method == "rigl" else 0.0
        self.keep(draw(grids, start, generator))

    def keep(self, kept: Kept) -> None:
        """Store these units and no others; weights outside of them become zero."""
        self.kept = kept
        for name, layer in self._weights.items():
            mask = expand(kept[name], tuple(layer.shape), self._settings.pattern).to(layer.dtype)
            self.masks[name] = mask.contiguous(memory_format=torch.channels_last)
        self._clear()

    def before(self, step: int) -> None:
        """Do what stands between a backward pass and the optimiser: move units, and drop the gradients of absent ones.

        Args:
            step: the training's, from 0.
        """
        if not self._settings.sparse:
            return
        if self._settings.method == "rigl" and step and step % self._every == 0:
            self._exchange(rigl.fraction(step / self._steps))
        for name, layer in self._weights.items():
            if layer.grad is not None:
                layer.grad.mul_(self.masks[name])

    def after(self, step: int, pull: float) -> None:
        """Do what stands behind the optimiser's step: shrink or drop units, and keep absent ones zero.

        Args:
            step: the training's, from 0.
            pull: this step's learning rate ÷ the sum of all until PRUNE_UNTIL.
        """
        settings, done = self._settings, (step + 1) / self._steps
        if not settings.sparse:
            return
        last = step + 1 == int(self._steps * PRUNE_UNTIL)
        if settings.method == "magnitude" and done <= PRUNE_UNTIL and (last or step % self._every == 0):
            self.keep(choose(self._scores(), settings.sparsity if last else pruned(done, settings.sparsity)))
        elif settings.method == "group-lasso" and step + 1 <= int(self._steps * PRUNE_UNTIL):
            for layer in self._weights.values():
                shrink(layer, settings.pattern, PULL * pull * initial_scale(layer))
            if last:
                self.keep(choose(self._scores(), settings.sparsity))
        self._clear()

    def _scores(self) -> dict[str, Tensor]:
        """Return the root mean square of every unit ÷ the layer's initial scale, by which layers compare.

        Absent units stand below every stored one, so that what was dropped stays so.
        """
        scores = {}
        for name, layer in self._weights.items():
            size = unit_size(tuple(layer.shape), self._settings.pattern) ** 0.5 * initial_scale(layer)
            scores[name] = torch.where(self.kept[name], norms(layer, self._settings.pattern) / size, -1.0)
        return scores

    def _exchange(self, share: float) -> None:
        """Move units. Gradients are taken times the norm of their output map's weights.

        Behind batch normalisation the size of a map's weights means nothing, and its gradient grows as the weights
        shrink: a map with next to no weights would draw all units to itself, and then explode.
        """
        pattern, moved = self._settings.pattern, {}
        for name, layer in self._weights.items():
            if layer.grad is None:
                raise RuntimeError(f"expected a gradient of {name}, got none; call it after backward")
            scale = layer.detach().square().sum((1, 2, 3), keepdim=True).sqrt()
            gradients = norms(layer.grad * scale, pattern)
            moved[name] = rigl.exchange(self.kept[name], norms(layer, pattern), gradients, share)
        self.keep(moved)

    def _clear(self) -> None:
        with torch.no_grad():
            for name, layer in self._weights.items():
                layer.mul_(self.masks[name])
