"""The parts of sparse training do what their formulas say: units, budgets, shrinking, exchanging, winners, penalty."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from sparsebench.suites.workloads.sparse_cnn import rigl
from sparsebench.suites.workloads.sparse_cnn.activity import kl_penalty, mean_activity, shares, winners
from sparsebench.suites.workloads.sparse_cnn.group_lasso import shrink
from sparsebench.suites.workloads.sparse_cnn.network import (
    KERNELS,
    build,
    densities,
    folded,
    narrowed,
    parameters,
    weight,
    with_hidden,
)
from sparsebench.suites.workloads.sparse_cnn.settings import BLOCK, PATTERNS, Settings
from sparsebench.suites.workloads.sparse_cnn.sparsify import Sparsifier, pruned
from sparsebench.suites.workloads.sparse_cnn.training import rate, stored_parameters
from sparsebench.suites.workloads.sparse_cnn.units import budget, choose, draw, expand, norms, unit_shape, unit_size

SHAPE = (16, 8, 3, 2)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Give small layers one thread: more cost time on a busy machine, and training is told to use one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights(seed: int = 0) -> Tensor:
    return torch.randn(SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_units_hold_their_own_weights(pattern: str) -> None:
    tensor = weights()
    grid = unit_shape(SHAPE, pattern)
    assert math.prod(grid) * unit_size(SHAPE, pattern) == tensor.numel()
    numbers = expand(torch.arange(math.prod(grid)).reshape(grid), SHAPE, pattern)
    assert numbers.shape == SHAPE
    expected = [float(tensor[numbers == unit].square().sum().sqrt()) for unit in range(math.prod(grid))]
    torch.testing.assert_close(norms(tensor, pattern).flatten(), torch.tensor(expected, dtype=torch.float64))


def test_unit_of_each_pattern() -> None:
    places = {pattern: expand(torch.arange(16 * 8).reshape(16, 8), SHAPE, "plane") for pattern in ("plane",)}
    assert (places["plane"][5, 3] == 5 * 8 + 3).all()
    assert (expand(torch.arange(8), SHAPE, "channel")[:, 3] == 3).all()
    assert (expand(torch.arange(2)[:, None], SHAPE, "block")[BLOCK:] == 1).all()
    assert unit_shape(SHAPE, "element") == SHAPE


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.9, 0.999])
def test_budgets_are_exact(sparsity: float) -> None:
    generator = torch.Generator().manual_seed(1)
    shapes = {"a": (7, 5), "b": (3, 11), "c": (2,)}
    scores = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    for kept in (choose(scores, sparsity), draw(shapes, sparsity, generator)):
        assert {name: tuple(part.shape) for name, part in kept.items()} == shapes
        assert sum(int(part.sum()) for part in kept.values()) == budget(70, sparsity) == round((1 - sparsity) * 70)


def test_choose_keeps_the_largest_and_the_first_of_equals() -> None:
    kept = choose({"a": torch.tensor([1.0, 3.0, 2.0]), "b": torch.tensor([3.0, 2.0])}, 0.4)
    assert kept["a"].tolist() == [False, True, True]
    assert kept["b"].tolist() == [True, False]


def test_a_layer_may_be_left_with_nothing() -> None:
    kept = choose({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}, 0.5)
    assert not kept["a"].any()
    assert kept["b"].all()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_shrinking_solves_the_proximal_problem(pattern: str) -> None:
    """The minimum of ½‖v − w‖² + amount·√size·Σ‖v‖ has a zero subgradient; checked unit by unit."""
    before = weights()
    limit = float(norms(before, pattern).median())
    amount = limit / unit_size(SHAPE, pattern) ** 0.5
    after = before.clone()
    shrink(after, pattern, amount)
    lengths = expand(norms(after, pattern), SHAPE, pattern)
    gone = lengths == 0
    assert gone.any()
    assert (~gone).any()
    gradient = after - before + limit * after / lengths
    assert gradient[~gone].abs().max() < 1e-12
    assert (norms(before, pattern)[norms(after, pattern) == 0] <= limit).all()


def test_shrinking_by_nothing_and_of_zeros() -> None:
    tensor = weights()
    tensor[3] = 0
    same = tensor.clone()
    shrink(same, "plane", 0.0)
    assert torch.equal(same, tensor)
    shrink(same, "plane", 1e9)
    assert not same.any()
    with pytest.raises(ValueError, match="expected an amount of at least 0"):
        shrink(same, "plane", -1.0)


def test_exchange_moves_the_smallest_to_the_largest_gradients() -> None:
    kept = torch.tensor([[True, True, True], [False, False, False]])
    sizes = torch.tensor([[3.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    gradients = torch.tensor([[9.0, 9.0, 9.0], [1.0, 3.0, 2.0]])
    assert rigl.exchange(kept, sizes, gradients, 0.34).tolist() == [[True, False, True], [False, True, False]]
    assert torch.equal(rigl.exchange(kept, sizes, gradients, 0.0), kept)
    everything = torch.ones(2, 3, dtype=torch.bool)
    assert torch.equal(rigl.exchange(everything, sizes, gradients, 1.0), everything)
    generator = torch.Generator().manual_seed(0)
    for share in (0.1, 0.5, 1.0):
        some = torch.rand(9, 7, generator=generator) < 0.4
        moved = rigl.exchange(some, torch.rand(9, 7, generator=generator), torch.rand(9, 7), share)
        assert moved.sum() == some.sum()
    assert rigl.fraction(0.0) == rigl.FRACTION
    assert rigl.fraction(rigl.END) == rigl.fraction(1.0) == 0.0


def test_pruning_rises_to_its_aim() -> None:
    levels = [pruned(step / 100, 0.9) for step in range(101)]
    assert levels == sorted(levels)
    assert levels[0] == 0.0
    assert levels[60] == levels[100] == pytest.approx(0.9)


@pytest.mark.parametrize("method", ["magnitude", "group-lasso", "rigl"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_method_ends_on_its_budget(method: str, pattern: str) -> None:
    maps = (16, 32, 32) if pattern == "block" else (8, 16, 16)  # a handful of blocks would be too few to move any
    settings = Settings(method=method, pattern=pattern, sparsity=0.7, maps=maps)
    generator = torch.Generator().manual_seed(0)
    net = build(settings.maps, 1.0, generator)
    steps = 20
    sparsifier = Sparsifier(net, settings, steps, generator)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    counts, first = [], {name: kept.clone() for name, kept in sparsifier.kept.items()}
    for step in range(steps):
        x = torch.randn(4, 1, 28, 28, generator=generator)
        optimiser.zero_grad()
        net(x).square().sum().backward()
        sparsifier.before(step)
        optimiser.step()
        sparsifier.after(step, 1 / 12)
        counts.append(sum(int(kept.sum()) for kept in sparsifier.kept.values()))
        for name, kept in sparsifier.kept.items():
            assert not norms(weight(net, name), pattern)[~kept].any()
    units = sum(kept.numel() for kept in sparsifier.kept.values())
    assert counts[-1] == budget(units, 0.7)
    if method == "rigl":
        assert set(counts) == {budget(units, 0.7)}
        assert any(not torch.equal(first[name], kept) for name, kept in sparsifier.kept.items())
    else:
        assert counts[0] > counts[-1]
        assert counts[12:] == [counts[-1]] * 8


def test_winners_keep_exactly_k_planes() -> None:
    x = torch.rand(5, 8, 3, 3, generator=torch.Generator().manual_seed(0)) + 0.1
    for share, planes in ((0.5, 4), (0.25, 2), (0.01, 1), (1.0, 8)):
        left = winners(x, share)
        alive = left.flatten(2).any(2)
        assert alive.sum(1).tolist() == [planes] * 5
        assert torch.equal(left[alive], x[alive])
        sums = x.sum((2, 3))
        assert (sums.masked_fill(~alive, torch.inf).amin(1) >= sums.masked_fill(alive, -torch.inf).amax(1)).all()


def test_winners_among_equals_are_the_first() -> None:
    left = winners(torch.ones(2, 64, 2, 2), 0.5)  # so many that an unstable sort shuffles them
    assert left.flatten(2).any(2).tolist() == [[True] * 32 + [False] * 32] * 2
    x = torch.ones(1, 4, 1, 1, requires_grad=True)
    (gradient,) = torch.autograd.grad(winners(x, 0.5).sum(), x)
    assert gradient.flatten().tolist() == [1.0, 1.0, 0.0, 0.0]


def test_penalty_meets_its_formula_and_gradient() -> None:
    activity = torch.tensor([0.02, 0.1, 0.5, 0.97], dtype=torch.float64, requires_grad=True)
    rho = 0.1
    value = kl_penalty(activity, rho)
    (gradient,) = torch.autograd.grad(value, activity)
    a = activity.detach()
    torch.testing.assert_close(gradient, (1 - rho) / (1 - a) - rho / a)
    coins = [rho * math.log(rho / p) + (1 - rho) * math.log((1 - rho) / (1 - p)) for p in a.tolist()]
    assert value.item() == pytest.approx(sum(coins))
    assert gradient[1].abs() < 1e-12  # at the activity asked for
    assert torch.isfinite(kl_penalty(torch.tensor([0.0, 1.0]), rho))


def test_activity_counts_what_is_on() -> None:
    hidden = torch.zeros(2, 3, 2, 2)
    hidden[0, 1, 0, 0] = 5.0
    hidden[1, 1] = 5.0
    assert shares(hidden) == (5 / 24, 2 / 6)
    torch.testing.assert_close(mean_activity(hidden), torch.tensor([0.0, 5 / 8, 0.0]))


def test_folding_changes_nothing_but_the_form() -> None:
    generator = torch.Generator().manual_seed(0)
    net = build((4, 8, 8), 1.0, generator, rho=0.2).double()
    x = torch.rand(32, 1, 28, 28, dtype=torch.float64, generator=generator)
    _, hidden = with_hidden(net, x)  # moves the running means
    assert 0.1 < shares(hidden[1])[0] < 0.3  # the normal quantile of rho
    with torch.no_grad():
        weight(net, "conv2")[:, 3] = 0
    net.eval()
    flat = folded(net).double()
    torch.testing.assert_close(flat(x), net(x), rtol=1e-5, atol=1e-5)  # folded weights are float32
    assert not weight(flat, "conv2")[:, 3].any()
    assert densities(net)["conv2"] == (0.75, 0.75)
    assert sum(part.numel() for part in flat.state_dict().values()) == parameters((4, 8, 8))


def test_narrow_network_has_as_many_parameters() -> None:
    maps = (32, 64, 64)
    for sparsity in (0.5, 0.75, 0.9, 0.95):
        target = stored_parameters(Settings(method="rigl", sparsity=sparsity))
        narrow = narrowed(maps, target)
        assert target <= parameters(narrow) <= 1.02 * target
        assert all(few < many for few, many in zip(narrow, maps, strict=True))
    assert stored_parameters(Settings()) == parameters(maps)
    assert [kernel for kernel, _ in KERNELS] == [5, 3, 3]
    assert parameters(maps) == 32 * 25 + 64 * 32 * 9 + 64 * 64 * 9 + 640 + 32 + 64 + 64 + 10


def test_rate_goes_up_and_down() -> None:
    rates = [rate(step, 100, 0.1) for step in range(100)]
    assert max(rates) == pytest.approx(0.1)
    assert rates.index(max(rates)) == 25
    assert rates[0] == pytest.approx(0.004)
    assert rates[-1] == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "lottery"}, "expected a method of dense, narrow"),
        ({"pattern": "stripe"}, "expected a pattern of element"),
        ({"method": "rigl", "sparsity": 1.0}, r"expected a sparsity in \[0, 1\), got 1.0"),
        ({"method": "rigl", "sparsity": -0.1}, "expected a sparsity"),
        ({"method": "rigl", "sparsity": math.nan}, "expected a sparsity"),
        ({"sparsity": 0.5}, "expected sparsity 0 for method dense"),
        ({"winners": 0.0}, "expected winners"),
        ({"rho": 1.0}, "expected rho"),
        ({"maps": (8, 12, 16), "pattern": "block"}, "expected maps that blocks of 8 divide"),
        ({"epochs": 0}, "expected epochs of at least 1"),
        ({"rate": math.inf}, "expected rate"),
    ],
)
def test_settings_refuse(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**wrong)  # type: ignore[arg-type]


def test_units_refuse() -> None:
    with pytest.raises(ValueError, match="expected maps that blocks of 8 divide"):
        unit_shape((12, 8, 3, 3), "block")
    with pytest.raises(ValueError, match="expected a weight"):
        unit_shape((12, 8), "plane")
    with pytest.raises(ValueError, match="expected units"):
        expand(torch.ones(3), SHAPE, "plane")


def test_labels_and_keys_tell_settings_apart() -> None:
    several = [Settings(), Settings(rho=0.1), Settings(winners=0.5), Settings(method="rigl", sparsity=0.5)]
    assert [one.label for one in several] == ["dense", "dense-rho0.1", "dense-k0.5", "rigl-plane-0.5"]
    assert len({one.key for one in (*several, Settings(epochs=7), Settings(beta=0.5))}) == 6
    assert isinstance(build((2, 2, 2), 0.5, torch.Generator()), nn.Sequential)
