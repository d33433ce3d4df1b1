"""Define SparseCoder, the one interface of the family: learn a dictionary, encode images, decode codes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sparsebench.representations import registry
from sparsebench.representations.base import Representation
from sparsebench.suites.workloads.sparse_coding.solvers.finite import all_finite
from sparsebench.suites.workloads.sparse_coding.solvers.scales import power_of, scaled

Progress = Callable[[int, float], None]
"""Told after every epoch: its number from 1, and its mean L1 per image."""


class DivergedError(ArithmeticError):
    """Learning left the finite numbers, or its error has grown beyond all reason; the message names the epoch."""


@dataclass(frozen=True, kw_only=True)
class CoderSettings:
    """What every model is told; a model's own settings are a frozen subclass.

    Attributes:
        units: N, rows of the dictionary.
        epochs: passes over the images in `fit`.
        batch: images a step in `fit`.
    """

    units: int
    epochs: int = 1
    batch: int = 256

    def __post_init__(self) -> None:
        if min(self.units, self.epochs, self.batch) < 1:
            raise ValueError(f"expected units, epochs and batch of at least 1, got {self}")


class SparseCoder(ABC):
    """Learn a dictionary W (N, d) from images v (n, d), encode images into codes (n, N), and decode r = code @ W.

    A code is a torch tensor (n, N): strided where most entries are not zero, `sparse_csr` where few are (int64 indices,
    ascending in a row). Any representation can be built from either; `decode` takes a tensor or a representation.

    A subclass gives `name`, `_start`, `_learn`, `_encode` and `_parameters`, and `multiply_adds` where it is not one
    product. Every draw comes from a
    CPU generator seeded with `seed`, so that a model begins alike on every device.

    A model has a unit: the least power of two that no pixel of the first images exceeds, 1 for digits in [0, 1]. What a
    subclass gives works on images in it, with parameters of their own size, so that what is learned does not depend on
    the images' units. Settings that are compared with images or codes without being a penalty λ are in it, too.

    Attributes:
        follows: whether the code grows with the images; if not, as with logistic units, the dictionary does.
        settings: frozen.
        seed: of the first parameters and of the order of images.
        device: "cpu" or "cuda".
        dtype: of the parameters, float32 or float64.
        holder: name of the representation that holds codes in `decode` and in learning; None stands for "dense" where
            the code is strided, for "ell" where every image has as many entries, and else for "csr".
        elapsed: the share of `fit` that is over, for schedules; 0 outside of it.
    """

    name: ClassVar[str]
    follows: ClassVar[bool] = True

    def __init__(
        self,
        settings: CoderSettings,
        *,
        seed: int = 0,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        holder: str | None = None,
    ) -> None:
        self.settings, self.seed, self.device, self.dtype, self.holder = settings, seed, device, dtype, holder
        self.elapsed = 0.0
        self._power = 0  # of the unit
        self._pixels: int | None = None

    # What every model gives

    @abstractmethod
    def _start(self, images: Tensor, generator: torch.Generator) -> None:
        """Draw the first parameters, for images like these (n, d), n ≥ 1; the generator is the CPU's."""

    @abstractmethod
    def _learn(self, images: Tensor) -> float:
        """Take one step on a batch (n, d), n ≥ 1; return the mean of Σ|v − r| over it, before the step."""

    @abstractmethod
    def _encode(self, images: Tensor) -> Tensor:
        """Return the code (n, N) of images (n, d), n ≥ 1, strided or sparse_csr, in `dtype`."""

    @abstractmethod
    def _parameters(self) -> dict[str, Tensor]:
        """Return what learning changes by name, "dictionary" (N, d) among it; the very tensors, not copies."""

    def _power_of(self, images: Tensor) -> int:
        """Return the exponent of the unit, for images like these (n, d)."""
        return power_of(images)

    # What follows from it

    def multiply_adds(self) -> int:
        """Return the multiply-adds of encoding one dense image, N · d; of iterations as many as allowed."""
        return self.settings.units * self._pixels_known()

    @property
    def dictionary(self) -> Tensor:
        """Return W (N, d).

        Raises:
            RuntimeError: if nothing has been learned or loaded.
        """
        self._pixels_known()
        return scaled(self._parameters()["dictionary"], 0 if self.follows else self._power)

    def fit(self, images: Tensor, progress: Progress | None = None) -> np.ndarray:
        """Learn anew from the seed: `settings.epochs` passes over images (n, d) in a seeded order.

        Returns:
            float64 (epochs,): the mean over the images of Σ|v − r| in each epoch, before each step.

        Raises:
            ValueError: if images are no finite (n, d) with n ≥ 1.
            DivergedError: see there.
        """
        self.begin(images)
        curve = np.empty(self.settings.epochs)
        for number in range(1, self.settings.epochs + 1):
            curve[number - 1] = self.epoch(images, number)
            if progress is not None:
                progress(number, float(curve[number - 1]))
        self.elapsed = 0.0
        return curve

    def begin(self, images: Tensor) -> None:
        """Forget everything and draw the first parameters for images like these (n, d)."""
        self._pixels, self._power = None, 0
        self._checked(images, least=1)
        self._power = self._power_of(images)
        images = self._checked(images, least=1)
        self._pixels = images.shape[1]
        self._start(images, torch.Generator().manual_seed(self.seed))

    def epoch(self, images: Tensor, number: int) -> float:
        """Learn from every image once, in an order that seed and number decide; `fit` in steps, to resume it.

        Args:
            images: (n, d).
            number: of the epoch, from 1.

        Returns:
            the mean over the images of Σ|v − r|, before each step.
        """
        images = self._checked(images, least=1)
        order = torch.from_numpy(np.random.default_rng([self.seed, number]).permutation(len(images)))
        total, steps = 0.0, order.split(self.settings.batch)
        for step, chosen in enumerate(steps):
            self.elapsed = (number - 1 + step / len(steps)) / self.settings.epochs
            level = self._learn(images[chosen.to(images.device)])
            total += level * len(chosen)
            if not math.isfinite(total):
                break
        level = total / len(images)
        self._check_sane(level, images, number)
        return math.ldexp(level, self._power)

    def partial_fit(self, images: Tensor) -> float:
        """Take one step on a batch (n, d); the first call begins from the seed. Return the mean Σ|v − r| before it.

        Raises:
            ValueError: if images are no finite (n, d) with n ≥ 1, or not as wide as those learned from before.
            DivergedError: if a number has become infinite or NaN.
        """
        if self._pixels is None:
            self.begin(images)
        level = self._learn(self._checked(images, least=1))
        if not (math.isfinite(level) and self._finite()):
            raise DivergedError(
                f"expected finite numbers, got NaN or infinity in a step of {self.name}; lower its rates"
            )
        return math.ldexp(level, self._power)

    def encode(self, images: Tensor) -> Tensor:
        """Return the code (n, N) of images (n, d); of no images, a strided code of no rows.

        Raises:
            ValueError: if images are no finite (n, d), or not as wide as those learned from.
            RuntimeError: if nothing has been learned.
        """
        self._pixels_known()
        images = self._checked(images, least=0)
        if len(images) == 0:
            return images.new_zeros(0, self._parameters()["dictionary"].shape[0])
        return scaled(self._encode(images), self._power if self.follows else 0)

    def decode(self, code: Tensor | Representation) -> Tensor:
        """Return r = code @ W (n, d), the code held by `holder` unless it is a representation already.

        Raises:
            ValueError: if the code is not (n, N).
            RuntimeError: if nothing has been learned.
        """
        dictionary = self.dictionary
        if len(code.shape) != 2 or code.shape[1] != len(dictionary):
            raise ValueError(f"expected a code (n, {len(dictionary)}), got {tuple(code.shape)}")
        if code.shape[0] == 0:
            return dictionary.new_zeros(0, dictionary.shape[1])
        return self.hold(code).matmul(dictionary.detach())

    def reconstruct(self, images: Tensor) -> Tensor:
        """Return decode(encode(images)), (n, d)."""
        return self.decode(self.encode(images))

    def hold(self, code: Tensor | Representation) -> Representation:
        """Return a code in the representation `holder`; one that is held already as it is."""
        if isinstance(code, Representation):
            return code
        return registry.load(self.holder if self.holder is not None else _natural(code)).build(code)

    def state(self) -> dict[str, Tensor]:
        """Return copies of all that was learned, on the CPU."""
        self._pixels_known()
        learned = {name: tensor.detach().cpu().clone() for name, tensor in self._parameters().items()}
        return {**learned, "unit": torch.tensor(2.0**self._power, dtype=torch.float64)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned from a model of the same settings.

        Raises:
            ValueError: if names or shapes do not fit.
        """
        if "dictionary" not in state:
            raise ValueError(f"expected a state of {self.name}, got one without a dictionary")
        self.begin(torch.zeros(1, state["dictionary"].shape[1]))
        own, unit = self._parameters(), float(state.get("unit", 1.0))
        shapes = {name: t.shape for name, t in state.items() if name != "unit"}
        if not unit > 0 or {name: t.shape for name, t in own.items()} != shapes:
            raise ValueError(f"expected a state of {self.name} with {self.settings}, got other names or shapes")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])
        self._power = math.frexp(unit)[1] - 1

    # Checks

    def _pixels_known(self) -> int:
        if self._pixels is None:
            raise RuntimeError(f"expected a {self.name} that has learned, got a new one; call fit, partial_fit or load")
        return self._pixels

    def _checked(self, images: Tensor, least: int) -> Tensor:
        """Return images on the device in `dtype` and in the model's unit, or say what is wrong with them."""
        if images.dim() != 2 or images.shape[1] < 1:
            raise ValueError(f"expected images (n, d), got {tuple(images.shape)}; flatten them")
        if len(images) < least:
            raise ValueError(f"expected at least {least} image to learn from, got none")
        if self._pixels is not None and images.shape[1] != self._pixels:
            raise ValueError(f"expected images of {self._pixels} numbers, as in learning, got {images.shape[1]}")
        if not all_finite(images):
            raise ValueError("expected finite images, got NaN or infinity; clean them first")
        return scaled(images.to(self.device), -self._power).to(self.dtype)

    def _finite(self) -> bool:
        return all(all_finite(t) for t in self._parameters().values() if t.is_floating_point())

    def _check_sane(self, level: float, images: Tensor, number: int) -> None:
        """Raise if an epoch ended with NaN, infinity, or an error a thousand times that of reconstructing nothing.

        Level and images are in the model's unit.
        """
        nothing = float(images.abs().sum(1).mean())
        if not (math.isfinite(level) and self._finite()):
            got = "NaN or infinity"
        elif level > 1000 * max(nothing, 1e-12):
            got = f"an error of {level:g} an image, where reconstructing nothing has {nothing:g}"
        else:
            return
        raise DivergedError(
            f"expected learning to stay finite, got {got} in epoch {number} of {self.settings.epochs} of {self.name}; "
            "lower its rates"
        )


def _natural(code: Tensor) -> str:
    """Return the name of the representation that holds a code without fill."""
    if code.layout == torch.strided:
        return "dense"
    counts = code.crow_indices().diff()
    return "ell" if bool((counts == counts[0]).all()) else "csr"
