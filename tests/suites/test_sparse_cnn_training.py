"""Trainings of the CNN learn, keep their budget, resume with the same bits, and leave what the report draws."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsebench.suites.workloads.data import DataError
from sparsebench.suites.workloads.sparse_cnn import images, kept, record, study
from sparsebench.suites.workloads.sparse_cnn.images import Images
from sparsebench.suites.workloads.sparse_cnn.network import CONVOLUTIONS, PRUNABLE, weight
from sparsebench.suites.workloads.sparse_cnn.plans import Plan
from sparsebench.suites.workloads.sparse_cnn.settings import Settings
from sparsebench.suites.workloads.sparse_cnn.training import Trained, judge, train

SMALL = Settings(maps=(8, 16, 16), images=512, epochs=3, batch=64)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Give every training one thread, as it is told to use."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits() -> Images:
    return images.load(None)


def bits(trained: Trained) -> dict[str, torch.Tensor]:
    return {name: part.clone() for name, part in trained.net.state_dict().items()}


class KilledError(Exception):
    """Stands for a kill between two epochs."""


@pytest.mark.parametrize(
    "settings",
    [
        dataclasses.replace(SMALL, method="rigl", sparsity=0.7, rho=0.1),
        dataclasses.replace(SMALL, method="group-lasso", sparsity=0.7, winners=0.5),
        dataclasses.replace(SMALL, method="magnitude", sparsity=0.7, pattern="element"),
    ],
    ids=lambda settings: settings.method,
)
def test_killed_training_ends_with_the_same_bits(settings: Settings, digits: Images, tmp_path: Path) -> None:
    whole = train(settings, 3, digits, home=tmp_path / "whole")
    told: list[int] = []

    def kill(epoch: int, accuracy: float) -> None:
        told.append(epoch)
        if len(told) in (1, 2):
            raise KilledError

    for _ in range(2):
        with pytest.raises(KilledError):
            train(settings, 3, digits, home=tmp_path / "killed", progress=kill)
    resumed = train(settings, 3, digits, home=tmp_path / "killed", progress=kill)
    assert told == [1, 2, 3]
    assert resumed.accuracy == whole.accuracy
    assert resumed.activity == whole.activity
    for name, part in bits(whole).items():
        assert torch.equal(bits(resumed)[name], part), name
    again = train(settings, 3, digits, home=tmp_path / "killed", progress=kill)
    assert told == [1, 2, 3]  # nothing was trained any more
    assert again.seconds == resumed.seconds
    assert all(torch.equal(bits(again)[name], part) for name, part in bits(whole).items())
    other = train(settings, 4, digits, home=tmp_path / "killed")
    assert any(not torch.equal(bits(other)[name], part) for name, part in bits(whole).items())


def test_what_is_kept_is_checked(digits: Images, tmp_path: Path) -> None:
    once = dataclasses.replace(SMALL, epochs=1)
    whole = train(once, 0, digits, home=tmp_path)
    (file,) = tmp_path.iterdir()
    identity = kept.identity(once.key, 0, digits.source)
    assert kept.load(file, identity) is not None
    assert kept.load(file, identity + " ") is None  # another training's
    file.write_bytes(file.read_bytes()[:1000])
    assert kept.load(file, identity) is None
    anew = train(once, 0, digits, home=tmp_path)
    assert all(torch.equal(bits(anew)[name], part) for name, part in bits(whole).items())
    assert len(list(tmp_path.iterdir())) == 1  # no drafts are left
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    assert train(once, 0, digits, home=blocked).accuracy == whole.accuracy


def test_it_learns_and_leaves_its_figures(digits: Images, tmp_path: Path) -> None:
    settings = Settings(method="group-lasso", sparsity=0.8, maps=(16, 32, 32), images=1024, epochs=6, batch=64, rho=0.1)
    trained = train(settings, 0, digits, home=tmp_path)
    assert trained.accuracy[-1] > 0.7  # a tenth would be chance
    accuracy, activity, _ = judge(trained.net, digits.test_x, digits.test_y)
    assert (accuracy, tuple(activity)) == (trained.accuracy[-1], trained.activity)
    arrays = record.artifact(trained)
    kept = [arrays[f"mask_{layer}"] for layer in PRUNABLE]
    assert sum(int(mask.sum()) for mask in kept) == round(0.2 * (16 * 32 + 32 * 32))
    every = [arrays[f"mask_{layer}"] for layer in CONVOLUTIONS]
    assert arrays["planes"] == sum(mask.sum() for mask in every) / sum(mask.size for mask in every)
    assert arrays["mask_conv2"].shape == (32, 16)
    assert str(arrays["method"]) == "group-lasso"
    assert str(arrays["data"]) == digits.source
    assert arrays["accuracy"].shape == (6,)
    assert arrays["weight_density"].shape == arrays["plane_density"].shape == arrays["layers"].shape == (4,)
    assert arrays["hidden"].shape == arrays["activity"].shape == arrays["plane_activity"].shape == (3,)
    nonzeros = sum(int((weight(trained.net, layer) != 0).sum()) for layer in CONVOLUTIONS)
    assert arrays["parameters"] == nonzeros + 16 + 32 + 32 + 330
    assert math.isnan(record.artifact(train(SMALL, 0, digits, home=tmp_path))["rho"])
    np.savez(tmp_path / "kept.npz", allow_pickle=False, **arrays)


def test_a_layer_with_nothing_left_runs_and_is_told(digits: Images, tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, method="magnitude", pattern="channel", sparsity=0.97, epochs=1)
    trained = train(settings, 0, digits, home=tmp_path)
    stored = {layer: int((weight(trained.net, layer) != 0).sum()) for layer in PRUNABLE}
    assert sorted(stored.values())[0] == 0  # one channel of 24 is left
    assert record.empty_layers(trained) == [layer for layer, count in stored.items() if not count]
    assert record.artifact(trained)["empty"].tolist() == record.empty_layers(trained)
    assert torch.isfinite(trained.net(digits.test_x[:8])).all()


def test_images_are_moved_and_refused(digits: Images) -> None:
    generator = torch.Generator().manual_seed(0)
    few = digits.first(100)
    batches = list(images.batches(few, 32, 2, generator))
    assert [len(x) for x, _ in batches] == [32] * 3
    assert sorted(torch.cat([x for x, _ in images.batches(few, 25, 0, generator)]).sum((1, 2, 3)).tolist()) == sorted(
        few.x.sum((1, 2, 3)).tolist()
    )
    inner = few.x[:, :, 4:-4, 4:-4].sum((1, 2, 3)).median()
    assert all(x.sum((1, 2, 3)).median() > 0.8 * inner for x, _ in batches)
    assert [len(x) for x, _ in images.batches(digits.first(5), 32, 2, generator)] == [5]
    with pytest.raises(DataError, match="expected between 1 and 4,000 images"):
        digits.first(4001)


def test_study_pairs_seeds_and_resumes(tmp_path: Path, digits: Images) -> None:
    plan = Plan(settings=dataclasses.replace(SMALL, images=None, batch=128), seen=640)
    assert plan.fitted(4000) == dataclasses.replace(SMALL, images=128, epochs=5, batch=128)
    assert plan.fitted(64).epochs == 10
    row = {"seen": 1, "activity": 0.1, "plane_activity": 0.2, "planes": 0.3, "parameters": 4, "seconds": 5.0}
    rows = [
        row | {"label": label, "seed": seed, "accuracy": 0.9 + 0.01 * gain + 0.001 * seed * seed}
        for label, gain in (("rigl-plane-0.9", 1), ("narrow-plane-0.9", 0))
        for seed in range(4)
    ]
    rows[3]["accuracy"] -= 0.02
    (found,) = study.pairs(rows)
    assert (found["sparse"], found["seeds"], found["wins"]) == ("rigl-plane-0.9", 4, 3)
    assert found["difference"] == pytest.approx(0.005)
    difference = np.array([0.01, 0.01, 0.01, -0.01])
    t = difference.mean() / (difference.std(ddof=1) / 2)
    assert t == pytest.approx(1.0)
    assert found["t_test_p"] == pytest.approx(0.3910, abs=1e-4)  # of t = 1 with 3 degrees of freedom
    summary = {one["label"]: one for one in study.summarise(rows)}
    assert summary["narrow-plane-0.9"]["accuracy_sd"] == pytest.approx(np.std([0, 1e-3, 4e-3, 9e-3], ddof=1))
    assert study.paired(rows[:5], "rigl-plane-0.9", "narrow-plane-0.9", 1) is None
