"""Learn a code of exactly k units by an autoencoder: one or two layers, the k largest drives, a linear decoder.

    z = C v' + B relu(A v' + a) + b, v' = v − c    the drives; without a hidden layer z = C v' + b
    o = relu(z) at the k largest z, 0 elsewhere    exactly k entries are stored, some of which may be 0
    r = clip(o @ W + c, 0, 1)                      c is a bias of the pixels, the mean image at first

It is the TopK autoencoder of Makhzani and Frey (2013, k-sparse autoencoders) and Gao et al. (2024, Scaling and
evaluating sparse autoencoders), with two additions that MNIST asks for. Learning begins with Σ(v − o @ W − c)² and goes
on with Σ|v − r|, r cut to [0, 1] as a picture is: most pixels are 0 or 1, and a unit may then overshoot where others
have decided already. From scratch that loss kills most units, hence the first phase. And units that no image has used
for a while learn to explain what is left over (`topk_layers.auxiliary`). With `squared=1` there is no second phase, and
nothing is cut: for images that are not in [0, 1], and where o @ W + c itself has to be near to them.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from sparsebench.kernels.sparse_codes import products
from sparsebench.kernels.sparse_codes.layout import CodeIndex
from sparsebench.representations.base import Representation
from sparsebench.suites.workloads.sparse_coding.models.coder import SparseCoder
from sparsebench.suites.workloads.sparse_coding.models.topk_layers import auxiliary, decode, shown
from sparsebench.suites.workloads.sparse_coding.models.topk_settings import TopKSettings
from sparsebench.suites.workloads.sparse_coding.solvers.code_layouts import csr_code, joined
from sparsebench.suites.workloads.sparse_coding.solvers.scales import power_of_mean, scaled

__all__ = ["TopKAutoencoder", "TopKSettings"]

CHUNK = 4096
"""Images encoded at a time: the drives of all units are dense for as long."""


class TopKAutoencoder(SparseCoder):
    """The TopK autoencoder; codes are sparse_csr with exactly k entries a row, none negative.

    In learning, the two products with the code are done by `holder` where one is named, else by the kernels of sparse
    codes, which need no conversion. `state` holds Adam's moments too, so that a stored training goes on bit for bit on
    the same number of threads.
    """

    name: ClassVar[str] = "topk-autoencoder"
    settings: TopKSettings

    # The interface

    def _start(self, images: Tensor, generator: torch.Generator) -> None:
        own, pixels = self.settings, images.shape[1]

        def drawn(rows: int, columns: int) -> Tensor:
            return torch.randn(rows, columns, generator=generator, dtype=torch.float64)

        centre = images.double().mean(0).cpu()
        atoms = torch.nn.functional.normalize(drawn(own.units, pixels), dim=1)
        if own.from_images:
            picked = torch.randperm(len(images), generator=generator)[: own.units]
            deviations = images[picked.to(images.device)].double().cpu() - centre
            # what is random keeps equal images, and constant ones, apart: of equal atoms only the first is ever chosen
            atoms[: len(picked)] *= 0.1
            atoms[: len(picked)] += torch.nn.functional.normalize(deviations, dim=1, eps=1e-6)
            atoms = torch.nn.functional.normalize(atoms, dim=1)
        first = {"dictionary": atoms, "drive_bias": torch.zeros(own.units), "pixel_bias": centre}
        if own.direct:
            first["direct"] = atoms  # the encoder begins as the decoder's transpose: no unit is dead at first
        if own.hidden:
            # inputs have squares that sum to about 50 for digits; He's rule for as many inputs of mean square 1 ÷ 16
            first["hidden"] = drawn(own.hidden, pixels) * math.sqrt(2 / pixels) * 4
            first["hidden_bias"] = torch.zeros(own.hidden)
            first["drive"] = drawn(own.units, own.hidden) / math.sqrt(own.hidden)
        self._weights = {
            name: tensor.to(self.device, self.dtype, copy=True).requires_grad_() for name, tensor in first.items()
        }
        self._adam = torch.optim.Adam(self._weights.values(), lr=own.rate, betas=(0.9, 0.99), fused=True)
        for weight in self._weights.values():  # made at once, so that `state` and `load` know them
            self._adam.state[weight] = {
                "step": torch.zeros((), device=self.device),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight),
            }
        self._idle = torch.zeros(own.units, dtype=torch.int64, device=self.device)

    def _power_of(self, images: Tensor) -> int:
        # where nothing is cut images are of either sign, as patches of variance 1, and their extremes say little
        return super()._power_of(images) if self.settings.cuts else power_of_mean(images)

    def _parameters(self) -> dict[str, Tensor]:
        moments = {
            f"adam.{name}.{kind}": tensor
            for name, weight in self._weights.items()
            for kind, tensor in self._adam.state[weight].items()
        }
        return {**self._weights, **moments, "idle": self._idle}

    def _learn(self, images: Tensor) -> float:
        own, weights = self.settings, self._weights
        drive = self._drive(images)
        values, index = self._chosen(drive)
        held = None
        if self.holder is not None:
            held = self.hold(csr_code(values.detach(), index.places, own.units))
        reconstructed = decode(values, weights["dictionary"], index, held) + weights["pixel_bias"]
        self._count(values.detach(), index.places)
        squared = self.elapsed < own.squared or not own.cuts
        seen = reconstructed if squared else shown(reconstructed, own.leak)
        loss = (images - seen).square().sum(1).mean() if squared else (images - seen).abs().sum(1).mean()
        dead = (self._idle >= own.dead_after).nonzero().squeeze(1)
        if len(dead) and own.auxiliary:
            left = (images - seen).detach()
            extra = auxiliary(drive, dead, weights["dictionary"], left, own.auxiliary_active)
            loss = loss + own.auxiliary * loss.detach() * extra
        self._step(loss)
        return self._level(images, reconstructed.detach())

    def _encode(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            found = [products.select(self._drive(part), self.settings.k) for part in images.split(CHUNK)]
        return joined([csr_code(torch.relu(values), places, self.settings.units) for values, places in found])

    def decode(self, code: Tensor | Representation) -> Tensor:
        """Return r = code @ W + c (n, d), c the pixels' bias, cut to [0, the unit] unless `settings.squared` is 1.

        Errors as in `SparseCoder.decode`.
        """
        reconstructed = super().decode(code) + scaled(self._weights["pixel_bias"].detach(), self._power)
        return reconstructed.clamp(0.0, 2.0**self._power) if self.settings.cuts else reconstructed

    def multiply_adds(self) -> int:
        """Return those of the drives of one image; choosing the k largest multiplies nothing."""
        own, pixels = self.settings, self._pixels_known()
        return own.direct * pixels * own.units + own.hidden * (pixels + own.units)

    # Its parts

    def _level(self, images: Tensor, reconstructed: Tensor) -> float:
        """Return the mean Σ|v − r|, r cut if `decode` cuts, unless what is cut off shows that learning diverges."""
        uncut = float((images - reconstructed).abs().sum(1).mean())
        beyond = 1e6 * max(1.0, float(images.abs().sum(1).mean()))  # the pixels that are left in would hide it
        if not self.settings.cuts or not uncut < beyond:
            return uncut
        return float((images - shown(reconstructed, 0.0)).abs().sum(1).mean())

    def _drive(self, images: Tensor) -> Tensor:
        """Return z (n, N)."""
        weights = self._weights
        centred = images - weights["pixel_bias"].detach()  # the decoder's alone to learn
        drive = weights["drive_bias"]
        if self.settings.direct:
            drive = drive + centred @ weights["direct"].t()
        if self.settings.hidden:
            hidden = torch.relu(centred @ weights["hidden"].t() + weights["hidden_bias"])
            drive = drive + hidden @ weights["drive"].t()
        return drive

    def _chosen(self, drive: Tensor) -> tuple[Tensor, CodeIndex]:
        """Return the code's values (n, k), contiguous, and their places."""
        _, places = products.select(drive.detach(), self.settings.k)
        values = torch.relu(drive.gather(1, places.long()))
        return values, CodeIndex(shape=(len(drive), self.settings.units), places=places)

    def _count(self, values: Tensor, places: Tensor) -> None:
        """Count for each unit the images since one used it."""
        self._idle += len(values)
        self._idle[places[values > 0].long()] = 0

    def _step(self, loss: Tensor) -> None:
        """Take a step of Adam at the rate of the moment."""
        own = self.settings
        self._adam.zero_grad()
        loss.backward()
        taken = float(self._adam.state[self._weights["dictionary"]]["step"])
        rise = min(1.0, (taken + 1) / (own.warm + 1))
        self._adam.param_groups[0]["lr"] = own.rate * rise * (0.5 + 0.5 * math.cos(math.pi * self.elapsed))
        self._adam.step()
