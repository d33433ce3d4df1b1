"""Encode with ten thousand units at the price of a few hundred: route to a group, score its units, choose some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsebench.suites.workloads.sparse_coding.models import routed_features, routed_pursuit
from sparsebench.suites.workloads.sparse_coding.models.coder import CoderSettings, SparseCoder
from sparsebench.suites.workloads.sparse_coding.solvers.code_layouts import csr_code

RIDGE = 1e-4
"""Of the regressions, times the mean of what stands on their diagonal."""
PULL = 0.3
"""How strongly a step of learning holds an atom where it is, in units of the mean Σo² of its group: images are few
(six a unit for MNIST at N = 10,000), and without it atoms learn single images by heart."""
UNUSED = 0.5
"""A unit that fewer (remembered) images than this chose is dead; learning moves it to what its group cannot explain."""
SETTLED = 0.9
"""The share of `fit` after which dead units are left as they are, so that none is new when it ends."""


@dataclass(frozen=True, kw_only=True)
class RoutedSettings(CoderSettings):
    """Say how large the groups are and how much the encoder may compute.

    Attributes:
        k: entries of a code.
        groups: G; each image uses the units of one group, N ÷ G of them.
        kept: shapes kept of rows and of columns as features (kept² numbers an image); 0 stands for all pixels, as do
            images that are not square.
        rank: numbers between features and scores, the waist of the encoder.
        shrink: pairs (choices made, units kept), ascending: after so many choices only the best so many units of the
            group stay in the pool.
        memory: the share of the statistics that each step keeps, in [0, 1).
    """

    k: int
    groups: int = 1
    kept: int = 0
    rank: int = 64
    shrink: tuple[tuple[int, int], ...] = ()
    memory: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.groups < 1 or self.units % self.groups:
            raise ValueError(f"expected groups of equal size, got {self.units} units in {self.groups} groups")
        if not 1 <= self.k <= self.pool:
            raise ValueError(f"expected 1 ≤ k ≤ {self.pool}, the units of a group, got {self.k}")
        if self.kept < 0 or self.rank < 1 or not 0 <= self.memory < 1:
            raise ValueError(f"expected kept ≥ 0, rank ≥ 1 and 0 ≤ memory < 1, got {self}")
        if any(at < 1 or size < self.k for at, size in self.shrink):
            raise ValueError(
                f"expected shrink to keep at least k = {self.k} units, from choice 1 on, got {self.shrink}"
            )

    @property
    def pool(self) -> int:
        """Return M, the units of a group."""
        return self.units // self.groups


class RoutedAutoencoder(SparseCoder):
    """Learn G groups of units and an encoder that looks at one group an image; both adapt to each other.

    Encoding an image: a few features (`routed_features`); the nearest of G centres names a group (as the router of
    Mudide et al. 2024, Switch sparse autoencoders); two thin layers estimate x·dᵢ for the units of the group, biases
    included; k units are chosen among them by orthogonal least squares (`routed_pursuit`), and their values solve a
    k×k system, so that they are the best for this choice. No step looks at more than one group.

    Learning: each batch is encoded as just said. The dictionary is that of least squares for the codes so far, held
    back towards where it was (Engan, Aase and Husøy 1999, method of optimal directions, with forgetting). The thin
    layers are the reduced-rank regression of the scores on the features (Izenman 1975), in closed form from running
    moments: there is no learning rate. Units that no image chooses are moved to residuals of their group.
    """

    name = "routed-autoencoder"
    settings: RoutedSettings

    def _start(self, images: Tensor, generator: torch.Generator) -> None:
        s, d = self.settings, images.shape[1]
        self._generator = generator
        down, along = routed_features.bases(images, s.kept)
        points = routed_features.features(images, down, along)[:, :-1]
        centres = routed_features.clusters(points, s.groups, generator)
        p, rank = points.shape[1] + 1, min(s.rank, points.shape[1] + 1, s.pool)
        near = routed_features.nearest(points, centres)
        self._tensors = {
            "dictionary": torch.cat([self._first_atoms(images[near == g], images) for g in range(s.groups)]),
            "rows": down,
            "columns": along,
            "centres": centres,
            "waist": images.new_zeros(s.groups, p, rank),
            "scorer": images.new_zeros(s.groups, rank, s.pool),
            "moments": images.new_zeros(s.groups, p, p),
            "crossed": images.new_zeros(s.groups, p, d),
            "squares": images.new_zeros(s.groups, s.pool, s.pool),
            "targets": images.new_zeros(s.units, d),
            "uses": images.new_zeros(s.units),
        }
        self._grams = self._all_grams()
        features = routed_features.features(images, down, along)
        for g in range(s.groups):
            self._remember_features(g, features[near == g], images[near == g])
            self._fit_scores(g)

    def _first_atoms(self, images: Tensor, everything: Tensor) -> Tensor:
        """Return M atoms of norm 1: the mean of a group, and differences of its images from nearly that."""
        images = images if len(images) else everything
        pick = torch.randint(len(images), (self.settings.pool,), generator=self._generator)
        mean = images.mean(0)
        atoms = images[pick.to(images.device)] - 0.9 * mean
        atoms += 1e-3 * torch.randn(atoms.shape, generator=self._generator).to(atoms)  # repeated and blank images
        atoms[0] += 0.9 * mean - (images[pick[0]] - mean)
        scaled: Tensor = atoms / atoms.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return scaled

    def _learn(self, images: Tensor) -> float:
        s, t = self.settings, self._tensors
        features = routed_features.features(images, t["rows"], t["columns"])
        near = routed_features.nearest(features[:, :-1], t["centres"])
        error = 0.0
        for g in near.unique().tolist():
            mine = (near == g).nonzero().flatten()
            places, values = self._encode_group(g, images[mine], features[mine])
            code = values.new_zeros(len(mine), s.pool).scatter_(1, places, values)
            residual = images[mine] - code @ self._atoms(g)
            error += float(residual.abs().sum())
            self._remember_features(g, features[mine], images[mine])
            self._remember_codes(g, code, images[mine])
            self._fit_atoms(g)
            if self.elapsed < SETTLED:
                self._revive(g, residual)
            self._grams[g] = self._atoms(g) @ self._atoms(g).t()
            self._fit_scores(g)
        return error / len(images)

    def _atoms(self, group: int) -> Tensor:
        pool = self.settings.pool
        return self._tensors["dictionary"][group * pool : (group + 1) * pool]

    def _of_group(self, name: str, group: int) -> Tensor:
        pool = self.settings.pool
        return self._tensors[name][group * pool : (group + 1) * pool]

    def _remember_features(self, group: int, features: Tensor, images: Tensor) -> None:
        memory = self.settings.memory
        self._tensors["moments"][group].mul_(memory).add_(features.t() @ features)
        self._tensors["crossed"][group].mul_(memory).add_(features.t() @ images)

    def _remember_codes(self, group: int, code: Tensor, images: Tensor) -> None:
        memory = self.settings.memory
        self._tensors["squares"][group].mul_(memory).add_(code.t() @ code)
        self._of_group("targets", group).mul_(memory).add_(code.t() @ images)
        self._of_group("uses", group).mul_(memory).add_((code.abs() > 0.01).sum(0))

    def _fit_atoms(self, group: int) -> None:
        """Solve for the atoms that explain the remembered images by their codes, and make their norms 1."""
        squares, targets, atoms = self._tensors["squares"][group], self._of_group("targets", group), self._atoms(group)
        pull = PULL * squares.diagonal().mean()
        if not float(pull) > 0:  # blank images only: nothing to learn
            return
        left = squares.clone()
        left.diagonal().add_(pull)
        solved = torch.cholesky_solve(targets + pull * atoms, torch.linalg.cholesky_ex(left)[0])
        norms = solved.norm(dim=1, keepdim=True)
        live = norms > 1e-6
        norms = torch.where(live, norms, torch.ones_like(norms))
        atoms.copy_(torch.where(live, solved / norms, atoms))
        squares.mul_(norms).mul_(norms.t())  # values grow by what their atoms shrink
        targets.mul_(norms)

    def _revive(self, group: int, residual: Tensor) -> None:
        dead = (self._of_group("uses", group) < UNUSED).nonzero().flatten()
        sizes = residual.norm(dim=1)
        alive = (sizes > 1e-6).nonzero().flatten()
        if len(dead) == 0 or len(alive) == 0:
            return
        # Deterministic, so that a loaded state goes on as the model itself would: the worst explained images first.
        worst = alive[sizes[alive].argsort(descending=True, stable=True)]
        pick = worst[torch.arange(len(dead), device=worst.device) % len(worst)]
        self._atoms(group)[dead] = residual[pick] / sizes[pick].unsqueeze(1)
        for name in ("targets", "uses"):
            self._of_group(name, group)[dead] = 0.0
        self._tensors["squares"][group][dead] = 0.0
        self._tensors["squares"][group][:, dead] = 0.0

    def _fit_scores(self, group: int) -> None:
        """Set the thin layers to the best of their rank for estimating x·dᵢ from features, in squared error."""
        moments = self._tensors["moments"][group].double()
        trace = moments.diagonal().mean()
        if not float(trace) > 0:
            return
        moments = moments + RIDGE * trace * torch.eye(len(moments), dtype=moments.dtype, device=moments.device)
        pixels = torch.cholesky_solve(self._tensors["crossed"][group].double(), torch.linalg.cholesky(moments))
        weights = pixels @ self._atoms(group).double().t()  # (p, M), of full rank
        root = torch.linalg.cholesky(moments)  # moments = root rootᵀ: errors are measured in rootᵀ·weights
        measured = root.t() @ weights
        _, vectors = torch.linalg.eigh(measured @ measured.t())
        best = vectors.flip(1)[:, : self._tensors["waist"].shape[2]]
        self._tensors["waist"][group] = torch.linalg.solve_triangular(root.t(), best, upper=True).to(self.dtype)
        self._tensors["scorer"][group] = (best.t() @ measured).to(self.dtype)

    def _encode_group(self, group: int, images: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return places within the group, ascending, and values, (n, k) each."""
        scores = features @ self._tensors["waist"][group] @ self._tensors["scorer"][group]
        gram, atoms = self._grams[group], self._atoms(group)
        places = routed_pursuit.choose(scores, gram, self.settings.k, self.settings.shrink)
        return places, routed_pursuit.least_squares_gram(images, atoms, gram, places)

    def _encode(self, images: Tensor) -> Tensor:
        s, t = self.settings, self._tensors
        features = routed_features.features(images, t["rows"], t["columns"])
        near = routed_features.nearest(features[:, :-1], t["centres"])
        places = torch.empty(len(images), s.k, dtype=torch.int64, device=images.device)
        values = images.new_empty(len(images), s.k)
        for g in near.unique().tolist():
            mine = (near == g).nonzero().flatten()
            found, values[mine] = self._encode_group(g, images[mine], features[mine])
            places[mine] = found + g * s.pool
        return csr_code(values, places, self.settings.units)

    def _parameters(self) -> dict[str, Tensor]:
        return self._tensors

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` returned; see `SparseCoder.load`."""
        super().load(state)
        self._grams = self._all_grams()

    def _all_grams(self) -> Tensor:
        atoms = self._tensors["dictionary"].view(self.settings.groups, self.settings.pool, -1)
        return atoms @ atoms.transpose(1, 2)

    def multiply_adds(self) -> int:
        """Return those of encoding one image: features, router, scores, choice, values; decoding is not among them."""
        s, pixels = self.settings, self._pixels_known()
        _, p, rank = self._tensors["waist"].shape
        return (
            routed_features.feature_multiply_adds(pixels, s.kept)
            + s.groups * (p - 1)
            + p * rank
            + rank * s.pool
            + routed_pursuit.choice_multiply_adds(s.pool, s.k, s.shrink)
            + routed_pursuit.solve_multiply_adds(s.k, pixels)
        )
