"""Learn a dictionary for codes that an inference finds: what Olshausen-Field, LCA and matching pursuit share."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsebench.suites.workloads.sparse_coding.models.coder import CoderSettings, DivergedError, SparseCoder

UPDATES = ("gradient", "online")
NOISE = 0.1
"""Length of the noise on the first atoms, relative to the images that they are."""


@dataclass(frozen=True, kw_only=True)
class DictionarySettings(CoderSettings):
    """What learning a dictionary is told.

    Attributes:
        update: "gradient": D += η · (aᵀe) ÷ h, the gradient of ½‖e‖² on the active units only, each unit's step divided
            by h, its Σa² (of the batch, or the running mean if that is more), the diagonal of the second derivative;
            "online": the sums of aᵀa and aᵀx with forgetting, and the best atom one after the other (Mairal, Bach,
            Ponce and Sapiro 2010, Online learning for matrix factorization, algorithm 2); N² numbers more.
        rate: η of "gradient" at the beginning, at most 1; it falls to a tenth in `fit`.
        memory: images after which the sums of "online" have faded to 1/e.
        patience: images without it after which a unit counts as dead and is drawn anew; 0 stands for never.
    """

    update: str = "gradient"
    rate: float = 0.3
    memory: float = 10_000.0
    patience: int = 5_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.update not in UPDATES:
            raise ValueError(f"expected an update of {', '.join(UPDATES)}, got {self.update!r}")
        if not 0 < self.rate <= 1 or not self.memory > 0 or self.patience < 0:
            raise ValueError(f"expected 0 < rate ≤ 1, memory > 0 and patience ≥ 0, got {self}")


class DictionaryLearner(SparseCoder):
    """Alternate between inference and a step of the dictionary, whose atoms always have norm 1.

    A subclass gives `_codes`, `name` and `multiply_adds`. Atoms begin as images with a little noise; units that were
    silent for `patience` images become what is left of the images that are reconstructed worst.
    """

    settings: DictionarySettings

    def _start(self, images: Tensor, generator: torch.Generator) -> None:
        units, pixels = self.settings.units, images.shape[1]
        inked = images[images.norm(dim=1) > 0]
        noise = torch.randn(units, pixels, generator=generator, dtype=self.dtype).to(self.device)
        noise /= noise.norm(dim=1, keepdim=True)
        atoms = noise.clone()
        if len(inked):
            order = torch.randperm(len(inked), generator=generator)[:units].to(self.device)
            chosen = inked[order] / inked[order].norm(dim=1, keepdim=True)
            atoms[: len(chosen)] = chosen + NOISE * atoms[: len(chosen)]
        self._dictionary = self._normalised(atoms)
        self._energy = torch.zeros(units, dtype=self.dtype, device=self.device)
        self._idle = torch.zeros(units, dtype=torch.int64, device=self.device)
        online = self.settings.update == "online"
        self._pairs = self._dictionary.new_zeros(units if online else 0, units)
        self._moments = self._dictionary.new_zeros(units if online else 0, pixels)

    def _parameters(self) -> dict[str, Tensor]:
        own = {"dictionary": self._dictionary, "energy": self._energy, "idle": self._idle}
        if self.settings.update == "online":
            own |= {"pairs": self._pairs, "moments": self._moments}
        return own

    @abstractmethod
    def _codes(self, images: Tensor, warn: bool) -> Tensor:
        """Return the code, sparse_csr (n, N), warning of images that are not solved if asked to."""

    def _encode(self, images: Tensor) -> Tensor:
        return self._codes(images, warn=True)

    def _learn(self, images: Tensor) -> float:
        try:
            code = self._codes(images, warn=False)
        except DivergedError:  # an inference does not know the epoch; who called this does, and tells it
            return math.nan
        held = self.hold(code)
        error = images - held.matmul(self._dictionary)
        level = float(error.abs().sum(1).mean())
        places, values = code.col_indices(), code.values()
        energy = torch.zeros_like(self._energy).index_add_(0, places, values.square())
        if self.settings.update == "gradient":
            self._step(held.rmatmul(error), energy, len(images))
        else:
            fade = math.exp(-len(images) / self.settings.memory)
            self._pairs.mul_(fade).add_(held.rmatmul(code.to_dense()))
            self._moments.mul_(fade).add_(held.rmatmul(images))
            self._descend()
        self._idle += len(images)
        self._idle[places[values != 0]] = 0
        if self.settings.patience:
            self._redraw(error)
        return level

    def _step(self, gradient: Tensor, energy: Tensor, count: int) -> None:
        fade = 0.99
        self._energy.mul_(fade).add_(energy, alpha=1 - fade)
        used = energy > 0
        rate = self.settings.rate * (1.0 - 0.9 * self.elapsed)
        scale = torch.where(used, rate / torch.maximum(energy, self._energy), 0.0)
        moved = self._dictionary + scale[:, None] * gradient
        self._dictionary[used] = self._normalised(moved[used], self._dictionary[used])

    def _descend(self) -> None:
        """Give every unit that is used its best atom, the others held fixed: d += (b − a D) ÷ a_jj, then norm 1."""
        diagonal = self._pairs.diagonal()
        for unit in (diagonal > 1e-6 * diagonal.mean()).nonzero().squeeze(1).tolist():
            atom = self._dictionary[unit]
            better = atom + (self._moments[unit] - self._pairs[unit] @ self._dictionary) / diagonal[unit]
            self._dictionary[unit] = self._normalised(better[None], atom[None])[0]

    def _redraw(self, error: Tensor) -> None:
        dead = (self._idle > self.settings.patience).nonzero().squeeze(1)
        if len(dead) == 0:
            return
        squares = error.square().sum(1)
        worst = squares.topk(min(len(dead), len(error))).indices
        worst = worst[squares[worst] > 0]
        dead = dead[: len(worst)]
        self._dictionary[dead] = self._normalised(error[worst], self._dictionary[dead])
        self._idle[dead] = 0
        self._energy[dead] = 0
        if self.settings.update == "online":
            self._pairs[dead], self._moments[dead] = 0, 0
            self._pairs[:, dead] = 0

    def _normalised(self, atoms: Tensor, otherwise: Tensor | None = None) -> Tensor:
        """Return atoms of norm 1; where nothing is left, the row of `otherwise`."""
        norms = atoms.norm(dim=1, keepdim=True)
        scaled = atoms / norms.clamp_min(1e-12)
        return scaled if otherwise is None else torch.where(norms > 1e-12, scaled, otherwise)
