"""The routed encoder chooses as orthogonal least squares does, through the best thin layers of their rank."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsebench.suites.workloads.data import digits
from sparsebench.suites.workloads.sparse_coding import quality
from sparsebench.suites.workloads.sparse_coding.models import routed_autoencoder, routed_features, routed_pursuit
from sparsebench.suites.workloads.sparse_coding.models.routed_autoencoder import RoutedAutoencoder, RoutedSettings
from sparsebench.suites.workloads.sparse_coding.solvers.omp import omp

DOUBLE = torch.float64


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def atoms_of(count: int, pixels: int, seed: int = 0) -> Tensor:
    atoms = drawn(count, pixels, seed=seed)
    return atoms / atoms.norm(dim=1, keepdim=True)


def sums(count: int, *, seed: int, units: int = 40, pixels: int = 25, k: int = 3) -> Tensor:
    """Draw images (count, pixels) that are sums of k of the same atoms, and a little noise."""
    places = torch.rand(count, units, generator=torch.Generator().manual_seed(seed)).argsort(1)[:, :k]
    values = 0.5 + drawn(count, k, seed=seed + 1).abs()
    code = torch.zeros(count, units, dtype=DOUBLE).scatter_(1, places, values)
    return code @ atoms_of(units, pixels, seed=77) + 0.01 * drawn(count, pixels, seed=seed + 2)


def small(**settings: object) -> RoutedAutoencoder:
    base = {"units": 48, "k": 3, "groups": 2, "rank": 26, "batch": 400, "epochs": 4}
    return RoutedAutoencoder(RoutedSettings(**{**base, **settings}), dtype=DOUBLE)  # type: ignore[arg-type]


def slow_choice(image: Tensor, atoms: Tensor, k: int) -> list[int]:
    """Try every atom in every step and solve anew."""
    chosen: list[int] = []
    for _ in range(k):
        errors = []
        for atom in range(len(atoms)):
            support = atoms[[*chosen, atom]].t()
            best = torch.linalg.lstsq(support, image.unsqueeze(1)).solution
            errors.append(
                float("inf") if atom in chosen else float((image.unsqueeze(1) - support @ best).square().sum())
            )
        chosen.append(min(range(len(atoms)), key=errors.__getitem__))
    return sorted(chosen)


def test_choice_is_orthogonal_least_squares() -> None:
    images, atoms = drawn(150, 20), atoms_of(30, 20, seed=1)
    places = routed_pursuit.choose(images @ atoms.t(), atoms @ atoms.t(), 4)
    assert places.tolist() == [slow_choice(image, atoms, 4) for image in images]
    matched = omp(images, atoms, 4).col_indices().view(-1, 4)
    assert places.tolist() != matched.tolist()  # the data tell the two methods apart


def test_choice_among_orthogonal_atoms_takes_the_largest() -> None:
    scores = drawn(9, 12)
    places = routed_pursuit.choose(scores, torch.eye(12, dtype=DOUBLE), 5)
    assert places.tolist() == scores.abs().topk(5, 1).indices.sort(1).values.tolist()
    assert routed_pursuit.choose(scores[:0], torch.eye(12, dtype=DOUBLE), 5).shape == (0, 5)


def test_a_shrinking_pool_chooses_among_what_it_keeps() -> None:
    images, atoms = drawn(80, 20), atoms_of(60, 20, seed=1)
    scores, gram = images @ atoms.t(), atoms @ atoms.t()
    whole = routed_pursuit.choose(scores, gram, 6)
    assert routed_pursuit.choose(scores, gram, 6, ((1, 60), (3, 60))).tolist() == whole.tolist()
    for shrink in (((2, 20),), ((1, 30), (4, 6))):
        places = routed_pursuit.choose(scores, gram, 6, shrink)
        assert bool((places.diff(dim=1) > 0).all())
        assert places.tolist() != whole.tolist()
        values = routed_pursuit.least_squares_gram(images, atoms, gram, places)
        best = routed_pursuit.least_squares_gram(images, atoms, gram, whole)
        left, least = ((images - (v.unsqueeze(1) @ atoms[p]).squeeze(1)).square().sum() for v, p in
                       ((values, places), (best, whole)))  # fmt: skip
        assert least < left < 1.5 * least
    # 2 steps of 60 atoms, then 4 of 20; in step i each atom has i products and 4 more
    assert routed_pursuit.choice_multiply_adds(60, 6, ((2, 20),)) == 60 * (4 + 5) + 20 * (6 + 7 + 8 + 9)


def test_chosen_atoms_are_distinct_where_nothing_is_left() -> None:
    atoms = atoms_of(6, 4)
    atoms[3] = atoms[0]
    for image in (torch.zeros(1, 4, dtype=DOUBLE), atoms[:1]):
        places = routed_pursuit.choose(image @ atoms.t(), atoms @ atoms.t(), 6)
        assert places.tolist() == [[0, 1, 2, 3, 4, 5]]
        values = routed_pursuit.least_squares_gram(image, atoms, atoms @ atoms.t(), places)
        torch.testing.assert_close((values @ atoms), image, atol=1e-4, rtol=0)


def test_a_copy_of_a_chosen_atom_waits_whatever_its_score_is_estimated_to_be() -> None:
    gram = torch.eye(4, dtype=DOUBLE)
    gram[0, 1] = gram[1, 0] = 1.0
    scores = torch.tensor([[2.0, 1.0, 0.5, 0.4]], dtype=DOUBLE)  # exact ones of equal atoms would be equal
    assert routed_pursuit.choose(scores, gram, 3).tolist() == [[0, 2, 3]]


def test_values_are_least_squares() -> None:
    images, atoms = drawn(300, 20), atoms_of(30, 20, seed=1)
    places = torch.rand(300, 30, generator=torch.Generator().manual_seed(3)).argsort(1)[:, :5]
    wanted = torch.linalg.lstsq(atoms[places].transpose(1, 2), images.unsqueeze(2)).solution.squeeze(2)
    values = routed_pursuit.least_squares_gram(images, atoms, atoms @ atoms.t(), places)
    torch.testing.assert_close(values, wanted, atol=1e-3, rtol=1e-3)  # the jitter is 1e-5


def test_features_are_those_of_two_dimensional_pca() -> None:
    images = drawn(50, 36)
    down, along = routed_features.bases(images, 4)
    found = routed_features.features(images, down, along)
    wanted = torch.stack([down.t() @ image.view(6, 6) @ along for image in images]).flatten(1)
    torch.testing.assert_close(found[:, :-1], wanted)
    assert bool((found[:, -1] == 1).all())
    assert routed_features.feature_multiply_adds(36, 4) == 6 * 6 * 4 + 6 * 4 * 4
    energy = wanted.square().sum()
    turned = torch.linalg.qr(drawn(6, 4, seed=5))[0]
    assert energy > (turned.t() @ images.view(-1, 6, 6) @ turned).square().sum()
    assert routed_features.features(images, *routed_features.bases(images, 0)).shape == (50, 37)
    assert routed_features.features(images[:, :35], *routed_features.bases(images[:, :35], 4)).shape == (50, 36)


def test_thin_layers_are_the_best_of_their_rank() -> None:
    images = sums(600, seed=0)
    coder = small(groups=1, rank=5)
    coder.begin(images)
    t = coder.state()
    features = torch.cat([images, torch.ones(600, 1, dtype=DOUBLE)], 1)
    scores = images @ t["dictionary"].t()  # linear in the features: the best of rank 5 is a truncated SVD
    u, s, v = torch.linalg.svd(scores, full_matrices=False)
    wanted = (u[:, :5] * s[:5]) @ v[:5]
    found = features @ t["waist"][0] @ t["scorer"][0]
    assert float((found - scores).square().sum()) < 1.01 * float((wanted - scores).square().sum())


def test_one_group_is_no_worse_than_omp() -> None:
    images, held_out = sums(2000, seed=0), sums(500, seed=9)
    coder = small(groups=1, epochs=8)
    curve = coder.fit(images)
    assert curve[-1] < 0.5 * curve[0]
    reached = quality.errors(held_out, coder.reconstruct(held_out))["squared"]
    matched = quality.errors(held_out, coder.decode(omp(held_out, coder.dictionary, 3)))["squared"]
    assert 0 < reached < 1.02 * matched


def test_codes_stay_in_a_group_and_use_all_units() -> None:
    images, held_out = sums(2000, seed=0), sums(500, seed=9)
    coder = small()
    curve = coder.fit(images)
    assert curve[-1] < 0.8 * curve[0]
    code = coder.encode(held_out)
    assert quality.activity(coder.encode(images))["dead_units"] == 0
    assert code.layout == torch.sparse_csr
    assert code.col_indices().dtype == torch.int64
    places = code.col_indices().view(500, 3)
    assert bool((places.diff(dim=1) > 0).all())
    assert bool((places[:, 0] // 24 == places[:, -1] // 24).all())
    assert set((places[:, 0] // 24).tolist()) == {0, 1}
    torch.testing.assert_close(coder.decode(code), code.to_dense() @ coder.dictionary)


def test_multiply_adds_are_counted() -> None:
    coder = RoutedAutoencoder(RoutedSettings(units=200, k=3, groups=4, kept=3, rank=6, shrink=((1, 10),)))
    coder.begin(drawn(100, 36))
    features, routing, layers = 6 * 6 * 3 + 6 * 3 * 3, 4 * 9, 10 * 6 + 6 * 50
    assert coder.multiply_adds() == features + routing + layers + (50 * 4 + 10 * (5 + 6)) + (3 * 36 + 27 // 6 + 9)


def test_dead_units_are_moved() -> None:
    images = sums(400, seed=0)
    images[:, 7] = 0.0
    coder = small(memory=0.0)
    coder.fit(images)
    state = coder.state()
    state["dictionary"][5] = torch.eye(25, dtype=DOUBLE)[7]  # looks at a pixel that is always black
    state["uses"][5] = 0.0
    coder.load(state)
    coder.partial_fit(images)
    assert abs(float(coder.dictionary[5, 7])) < 1e-3
    for _ in range(3):
        coder.partial_fit(images)
    assert float(coder.state()["uses"][5]) > 0


def test_what_is_remembered_of_codes_follows_the_norms_of_their_atoms() -> None:
    """A step solves for atoms and makes their norms 1; the values it remembers must grow by what the atoms shrink."""
    images = drawn(200, 16).abs()
    images /= images.max()
    model = RoutedAutoencoder(RoutedSettings(units=6, k=3), dtype=DOUBLE)
    model.begin(images)
    code, before = model.encode(images).to_dense(), model.state()
    assert int((code.abs() > 0.01).any(0).sum()) == 6  # all are in use: none is moved
    model.partial_fit(images)
    after, squares, targets = model.state(), code.t() @ code, code.t() @ images
    pull = routed_autoencoder.PULL * squares.diagonal().mean() * torch.eye(6, dtype=DOUBLE)
    solved = torch.linalg.solve(squares + pull, targets + pull @ before["dictionary"])
    norms = solved.norm(dim=1, keepdim=True)
    torch.testing.assert_close(after["dictionary"], solved / norms)
    torch.testing.assert_close(after["targets"], targets * norms)
    torch.testing.assert_close(after["squares"][0], squares * norms * norms.t())


def test_real_digits_at_small_size() -> None:
    train, test = (digits(None, split).images.flatten(1) for split in ("train", "test"))
    coder = RoutedAutoencoder(
        RoutedSettings(units=200, k=7, groups=2, kept=16, rank=64, batch=1000, epochs=2, shrink=((3, 50),))
    )
    coder.fit(train)
    test = test[:500]
    reached = quality.measure(test, coder.encode(test), coder.reconstruct(test))
    matched = quality.errors(test, coder.decode(omp(test, coder.dictionary, 7)))
    assert reached["l1_clipped"] < 1.05 * matched["l1_clipped"]
    assert reached["l1_clipped"] < 50
    assert reached["l0_weak"] <= 7
    assert quality.activity(coder.encode(train))["dead_units"] <= 2


def test_resuming_is_going_on_and_seeds_decide() -> None:
    images = sums(1000, seed=0)
    whole, part, again = small(epochs=3), small(epochs=3), small(epochs=3)
    curve = whole.fit(images)
    part.begin(images)
    first = part.epoch(images, 1)
    again.load(part.state())
    assert [first, again.epoch(images, 2), again.epoch(images, 3)] == pytest.approx(list(curve), rel=1e-9)
    torch.testing.assert_close(again.encode(images).to_dense(), whole.encode(images).to_dense())
    other = RoutedAutoencoder(whole.settings, seed=1, dtype=DOUBLE)
    assert other.fit(images)[0] != curve[0]
    with pytest.raises(ValueError, match="names or shapes"):
        small(units=96).load(whole.state())


def test_few_blank_and_constant_images() -> None:
    coder = small(groups=8, k=2)
    coder.fit(sums(3, seed=0))
    assert coder.encode(sums(5, seed=1)).shape == (5, 48)
    assert coder.encode(torch.zeros(0, 25)).shape == (0, 48)
    for constant in (torch.zeros(30, 25), torch.full((30, 25), 0.7)):
        fresh = small()
        fresh.fit(constant)
        torch.testing.assert_close(fresh.reconstruct(constant), constant.double(), atol=5e-3, rtol=0)
    blank = coder.encode(torch.zeros(2, 25))
    assert bool((blank.values() == 0).all())
    assert blank.values().numel() == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"units": 50, "groups": 4}, "equal size"),
        ({"k": 25}, "1 ≤ k ≤ 24"),
        ({"k": 0}, "1 ≤ k ≤ 24"),
        ({"rank": 0}, "rank ≥ 1"),
        ({"memory": 1.0}, "memory < 1"),
        ({"shrink": ((1, 2),)}, "at least k = 3"),
        ({"epochs": 0}, "at least 1"),
    ],
)
def test_wrong_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**settings)


def test_wrong_images() -> None:
    images = sums(100, seed=0)
    coder = small()
    for call in (coder.encode, coder.reconstruct):
        with pytest.raises(RuntimeError, match="has learned"):
            call(images)
    coder.fit(images)
    for wrong, message in ((images[:, :9], "25 numbers"), (images * float("nan"), "NaN"), (images[0], "flatten")):
        for call in (coder.encode, coder.partial_fit):
            with pytest.raises(ValueError, match=message):
                call(wrong)
    with pytest.raises(ValueError, match="got none"):
        coder.partial_fit(images[:0])
