"""Train the small CNN: one recipe for every method, deterministic, and resumed at the last finished epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sparsebench.suites.workloads.sparse_cnn import kept
from sparsebench.suites.workloads.sparse_cnn.activity import activity_loss, shares
from sparsebench.suites.workloads.sparse_cnn.images import Images, batches, steps
from sparsebench.suites.workloads.sparse_cnn.network import (
    HIDDEN,
    PRUNABLE,
    build,
    last,
    narrowed,
    parameters,
    weight,
    with_hidden,
)
from sparsebench.suites.workloads.sparse_cnn.settings import Settings
from sparsebench.suites.workloads.sparse_cnn.sparsify import PRUNE_UNTIL, Sparsifier
from sparsebench.suites.workloads.sparse_cnn.units import budget, unit_shape, unit_size

MOMENTUM = 0.9
WARM = 0.25
"""Share of the training in which the learning rate rises; then it falls, both as a cosine (Smith 2018, one cycle)."""
TEST_BATCH = 500

Progress = Callable[[int, float], None]
"""Told the epoch, from 1, and its test accuracy."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What a training left.

    Attributes:
        settings: that were asked for.
        seed: of weights, order, moves and first choice of units.
        source: of the images.
        net: the network in evaluation mode; `network.folded` makes it one of convolutions with biases.
        accuracy: on the test images after each epoch, in [0, 1].
        activity: by hidden layer, the share of non-zero activations on the test images.
        plane_activity: by hidden layer, the share of planes with any.
        seconds: spent on training, testing included.
    """

    settings: Settings
    seed: int
    source: str
    net: nn.Sequential
    accuracy: tuple[float, ...]
    activity: tuple[float, ...]
    plane_activity: tuple[float, ...]
    seconds: float

    @property
    def parameters(self) -> int:
        """Return the numbers that the folded network stores: weights that are not absent, and biases."""
        maps = maps_of(self.net)
        absent = sum(int((weight(self.net, name) == 0).sum()) for name in PRUNABLE)
        return parameters(maps, absent)


def maps_of(net: nn.Sequential) -> tuple[int, int, int]:
    """Return the maps of the three convolutions."""
    first, second, third = (len(weight(net, name)) for name in ("conv1", "conv2", "conv3"))
    return first, second, third


def stored_parameters(settings: Settings) -> int:
    """Return how many numbers a network with this pattern and sparsity stores; of unequal units, the expected ones.

    For channels and other units of unlike sizes, which are stored is known only after the training.
    """
    maps = settings.maps
    shapes = [(maps[1], maps[0], 3, 3), (maps[2], maps[1], 3, 3)]
    units = [math.prod(unit_shape(shape, settings.pattern)) for shape in shapes]
    absent = sum(units) - budget(sum(units), settings.sparsity)
    weights = sum(count * unit_size(shape, settings.pattern) for count, shape in zip(units, shapes, strict=True))
    return parameters(maps, round(absent * weights / sum(units)))


def rate(step: int, total: int, highest: float) -> float:
    """Return the learning rate of a step (from 0): up from 1/25 of the highest, and down to nearly nothing."""
    rise = max(1, round(WARM * total))
    if step < rise:
        low, high, p = highest / 25, highest, step / rise
    else:
        low, high, p = highest, highest * 1e-4, (step - rise) / max(1, total - 1 - rise)
    return high + (low - high) * (1.0 + math.cos(math.pi * p)) / 2


@contextmanager
def one_thread() -> Iterator[None]:
    """Give torch one thread, and its own number back afterwards.

    The layers are small: on a busy machine with two cores, two threads took ten times as long as one. And sums taken
    in another order end with other bits.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(
    settings: Settings, seed: int, images: Images, *, home: Path | None = None, progress: Progress | None = None
) -> Trained:
    """Train, or go on where an earlier call with the same settings, seed and data stopped, or return what it left.

    With one number of threads, an interrupted training ends with the same bits as an uninterrupted one.

    Args:
        settings: what to train.
        seed: of everything that is random.
        images: all of them; `settings.images` says how many are used.
        home: folder of the kept trainings; None for the user's cache folder.
        progress: told after every epoch that is trained in this call.

    Raises:
        DataError: if there are fewer images than asked for.
    """
    used = images.first(settings.images)
    generator = torch.Generator().manual_seed(seed)
    maps = settings.maps
    if settings.method == "narrow":
        maps = narrowed(maps, stored_parameters(settings))
    net = build(maps, settings.winners, generator, settings.rho)
    optimiser = torch.optim.SGD(
        net.parameters(), lr=settings.rate, momentum=MOMENTUM, nesterov=True, weight_decay=settings.decay
    )
    total = settings.epochs * steps(len(used.x), settings.batch)
    sparsifier = Sparsifier(net, settings, total, generator)
    identity = kept.identity(settings.key, seed, images.source)
    path = kept.place(home or kept.folder(), settings.label, seed, identity)
    state = kept.load(path, identity)
    if state is not None:
        net.load_state_dict(state["net"])
        if state["optimiser"] is not None:  # a finished training has no more use for it
            optimiser.load_state_dict(state["optimiser"])
        sparsifier.keep(state["kept"])
        generator.set_state(state["generator"])
    else:
        state = {"identity": identity, "accuracy": [], "seconds": 0.0}
    rates = [rate(step, total, settings.rate) for step in range(total)]
    while len(state["accuracy"]) < settings.epochs:
        begin = time.perf_counter()
        _epoch(net, optimiser, sparsifier, used, settings, rates, len(state["accuracy"]), generator)
        accuracy, activity, plane_activity = judge(net, images.test_x, images.test_y)
        state = {
            "identity": identity,
            "net": net.state_dict(),
            "optimiser": optimiser.state_dict() if len(state["accuracy"]) + 1 < settings.epochs else None,
            "kept": sparsifier.kept,
            "generator": generator.get_state(),
            "accuracy": [*state["accuracy"], accuracy],
            "activity": activity,
            "plane_activity": plane_activity,
            "seconds": state["seconds"] + time.perf_counter() - begin,
        }
        kept.save(path, state)
        if progress is not None:
            progress(len(state["accuracy"]), accuracy)
    return Trained(
        settings=settings,
        seed=seed,
        source=images.source,
        net=net.eval().requires_grad_(False),
        accuracy=tuple(state["accuracy"]),
        activity=tuple(state["activity"]),
        plane_activity=tuple(state["plane_activity"]),
        seconds=state["seconds"],
    )


def _epoch(
    net: nn.Sequential,
    optimiser: torch.optim.Optimizer,
    sparsifier: Sparsifier,
    images: Images,
    settings: Settings,
    rates: list[float],
    epoch: int,
    generator: torch.Generator,
) -> None:
    """Run the steps of one epoch (from 0)."""
    net.train()
    until_pruned = sum(rates[: int(len(rates) * PRUNE_UNTIL)]) or 1.0
    first = epoch * steps(len(images.x), settings.batch)
    for step, (x, y) in enumerate(batches(images, settings.batch, settings.shift, generator), first):
        optimiser.param_groups[0]["lr"] = rates[step]
        optimiser.zero_grad()
        logits, hidden = with_hidden(net, x)
        loss = nn.functional.cross_entropy(logits, y)
        if settings.rho is not None:
            loss = loss + activity_loss(hidden, settings.rho, settings.beta)
        loss.backward()
        sparsifier.before(step)
        optimiser.step()
        sparsifier.after(step, rates[step] / until_pruned)


def judge(net: nn.Sequential, x: Tensor, y: Tensor) -> tuple[float, list[float], list[float]]:
    """Return the accuracy in [0, 1], and by hidden layer the shares of non-zero activations and of planes with any.

    Args:
        net: in any mode; it is left in evaluation mode.
        x: images (n, 1, 28, 28).
        y: classes (n,).
    """
    net.eval()
    right, found = 0, torch.zeros(2, len(HIDDEN), dtype=torch.float64)
    with torch.no_grad():
        for some, classes in zip(x.split(TEST_BATCH), y.split(TEST_BATCH), strict=True):
            logits, hidden = with_hidden(net, last(some))
            right += int((logits.argmax(1) == classes).sum())
            found += torch.tensor([shares(layer) for layer in hidden], dtype=torch.float64).t() * len(some)
    activity, plane_activity = (found / len(y)).tolist()
    return right / len(y), activity, plane_activity
