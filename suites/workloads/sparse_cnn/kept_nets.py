"""Make networks of the kept study to be timed without training: its zeros are kept, its weights are drawn.

How long a network takes depends on where its zeros are, and not on the other weights. The study kept which planes are
stored, and how many weights of each layer; where single elements were pruned, which weights of a stored plane are left
is drawn too. The accuracy is the study's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparsebench.suites.cell import Case
from sparsebench.suites.workloads.problem import Quality
from sparsebench.suites.workloads.sparse_cnn import plans
from sparsebench.suites.workloads.sparse_cnn.net_problems import NetProblem, StepProblem
from sparsebench.suites.workloads.sparse_cnn.network import PRUNABLE, build, weight
from sparsebench.suites.workloads.sparse_cnn.settings import Settings
from sparsebench.suites.workloads.sparse_cnn.training import Trained
from sparsebench.suites.workloads.studies import read

METRIC = "kept test accuracy"


@dataclass(frozen=True, kw_only=True)
class KeptPlan:
    """Which networks of the study are timed.

    Attributes:
        method, pattern, sparsity, seen: as a `plans.Plan` has them.
    """

    method: str
    pattern: str
    sparsity: float
    seen: int

    @property
    def workload(self) -> str:
        """Return the name that a case has for it; pattern and sparsity stand beside it."""
        return f"kept digits CNN, {self.method}, {self.seen:,} seen"


PLANES: tuple[KeptPlan, ...] = tuple(
    KeptPlan(method=plans.BEST, pattern="plane", sparsity=level, seen=plans.LONG) for level in plans.BUDGETS
)
"""Of ten seeds each."""
ELEMENTS: tuple[KeptPlan, ...] = tuple(
    KeptPlan(method="magnitude", pattern="element", sparsity=level, seen=plans.MEDIUM) for level in plans.LEVELS
)
"""Of three seeds each."""


def trainings(plan: KeptPlan) -> list[dict[str, np.ndarray]]:
    """Return what the study kept of a plan, a training a seed.

    Raises:
        ValueError: if it kept none.
    """
    found = [
        one
        for one in read.cnn_trainings()
        if (str(one["method"]), str(one["pattern"]), float(one["sparsity"]), int(one["seen"]))
        == (plan.method, plan.pattern, plan.sparsity, plan.seen)
        and np.isnan(one["rho"])
        and float(one["winners"]) == 1.0
    ]
    if not found:
        raise ValueError(f"expected trainings of {plan} in the kept study, got none; make it anew")
    return sorted(found, key=lambda one: int(one["seed"]))


def network(plan: KeptPlan) -> Trained:
    """Return the network of the lowest seed, with the mean accuracy of all seeds."""
    every = trainings(plan)
    one = every[0]
    first, second, third = (int(count) for count in one["maps"])
    maps = (first, second, third)
    generator = torch.Generator().manual_seed(int(one["seed"]))
    net = build(maps, 1.0, generator)
    density = dict(zip(one["layers"].tolist(), one["weight_density"].tolist(), strict=True))
    with torch.no_grad():
        for name in PRUNABLE:
            own = weight(net, name)
            own.mul_(_stored(torch.from_numpy(one[f"mask_{name}"]), own, density[name], generator))
    return Trained(
        settings=Settings(method=plan.method, pattern=plan.pattern, sparsity=plan.sparsity, maps=maps),
        seed=int(one["seed"]),
        source=str(one["data"]),
        net=net.eval().requires_grad_(False),
        accuracy=(float(np.mean([other["accuracy"][-1] for other in every])),),
        activity=tuple(one["activity"].tolist()),
        plane_activity=tuple(one["plane_activity"].tolist()),
        seconds=float(one["seconds"]),
    )


def _stored(planes: Tensor, own: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """Return where weights (out, in, kh, kw) are stored: so many in all, and in every stored plane (out, in) one."""
    scores = torch.rand(own.shape, generator=generator)
    scores = torch.where(planes[:, :, None, None], scores, -1.0)
    best = scores.flatten(2).argmax(2, keepdim=True)
    scores = scores.flatten(2).scatter_add(2, best, planes[:, :, None].float()).reshape(own.shape)
    chosen = torch.zeros(own.numel(), dtype=torch.bool)
    chosen[scores.flatten().argsort(descending=True)[: round(density * own.numel())]] = True
    return chosen.reshape(own.shape)


def quality(every: Sequence[dict[str, np.ndarray]]) -> Quality:
    """Return the mean accuracy over the seeds, with their spread (n − 1) and number beside."""
    values = np.array([one["accuracy"][-1] for one in every])
    figures = {"kept_sd": float(values.std(ddof=1)), "kept_seeds": float(len(values))}
    return Quality(value=float(values.mean()), metric=METRIC, figures=figures)


class KeptNetProblem(NetProblem):
    """Inference of a kept network."""

    def __init__(self, case: Case, device: str, plan: KeptPlan, x: Tensor, y: Tensor) -> None:
        """Take images (n, 1, 28, 28) of classes (n,)."""
        super().__init__(case, device, network(plan), x, y)
        self._quality = quality(trainings(plan))

    def quality(self, outputs: tuple[Tensor, ...]) -> Quality:
        """Return the study's accuracy."""
        return self._quality


class KeptStepProblem(StepProblem, KeptNetProblem):
    """A training step of a kept network."""

    def quality(self, outputs: tuple[Tensor, ...]) -> Quality:
        """Return the study's accuracy."""
        return self._quality


KEPT_NETS: dict[str, type[KeptNetProblem]] = {"inference": KeptNetProblem, "training_step": KeptStepProblem}
"""By operation."""
