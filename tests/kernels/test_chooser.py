"""Choices are measured once a machine and kind of problem, kept with how sure they are, and dropped when they lose."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sparsebench.kernels.common import choices, chooser, race, unrest
from sparsebench.kernels.common.chooser import Trial


@dataclass(frozen=True, kw_only=True)
class Way:
    """A candidate."""

    tile: int


WAYS = [Way(tile=tile) for tile in (1, 2, 3)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(choices, "folder", lambda: tmp_path / "choices")
    monkeypatch.setattr(chooser, "other_work", lambda: None)
    chooser.forget()
    yield tmp_path / "choices"
    chooser.forget()


class Machine:
    """Ways that take milliseconds on a clock that only they move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **milliseconds: float) -> None:
        self.now, self.entered, self.trials = 0.0, [], 0
        self.seconds = {Way(tile=int(name[1:])): taken * 1e-3 for name, taken in milliseconds.items()}
        self.wrong: set[Way] = set()
        monkeypatch.setattr(chooser, "race", lambda *args, **named: race.race(*args, **named, clock=lambda: self.now))

    def trial(self) -> Trial[Way]:
        self.trials += 1
        return Trial(run=self._run, right=self._right)

    def _run(self, way: Way) -> None:
        self.now += self.seconds[way]

    def _right(self, way: Way) -> bool:
        self.entered.append(way)
        return way not in self.wrong


def unquiet(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr(chooser, "unrest", lambda: share)


def noted(folder: Path) -> dict[str, Any]:
    (path,) = folder.iterdir()
    found: dict[str, Any] = json.loads(path.read_text())["choices"]
    return found


def change(folder: Path, **fields: object) -> None:
    (path,) = folder.iterdir()
    whole = json.loads(path.read_text())
    whole["choices"]["dsd"].update(fields)
    path.write_text(json.dumps(whole))


def test_a_choice_is_measured_once_and_kept_with_its_margin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, w1=2.0, w2=1.0, w3=1.5)
    assert chooser.choose("chip", "dsd", WAYS, machine.trial) == WAYS[1]
    assert chooser.choose("chip", "dsd", WAYS, machine.trial) == WAYS[1]
    kept = noted(folder)["dsd"]
    assert (kept["choice"], kept["second"]) == ({"tile": 2}, {"tile": 3})
    assert kept["margin"] == pytest.approx(0.5)
    assert kept["seconds"] == pytest.approx(1e-3)
    chooser.forget()  # as a new process would begin
    assert chooser.choose("chip", "dsd", WAYS, machine.trial) == WAYS[1]
    assert machine.trials == 1
    assert chooser.choose("chip", "dsd", [WAYS[0], WAYS[2]], machine.trial) == WAYS[2]  # what is kept is no candidate
    assert chooser.choose("other chip", "dsd", WAYS, machine.trial) == WAYS[1]
    assert machine.trials == 3


def test_texts_are_candidates_too(folder: Path) -> None:
    assert chooser.choose("chip", "conv", ["ours"], lambda: Trial(run=len, right=bool)) == "ours"
    assert noted(folder)["conv"]["choice"] == {"name": "ours"}
    assert noted(folder)["conv"]["margin"] is None  # there is no second


def test_what_is_wrong_is_never_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, w1=2.0, w2=1.0, w3=1.5)
    machine.wrong = {WAYS[1]}
    assert chooser.choose("chip", "dsd", WAYS, machine.trial) == WAYS[2]
    machine.wrong = set(WAYS)
    with pytest.raises(RuntimeError, match="expected one of 3 candidates for dds to be right, got none"):
        chooser.choose("chip", "dds", WAYS, machine.trial)
    with pytest.raises(ValueError, match="expected a candidate for dds, got none"):
        chooser.choose("chip", "dds", [], machine.trial)


@pytest.mark.parametrize(
    ("noise", "decided", "now", "again"),
    [(0.2, True, 0.1, True), (0.2, True, 0.4, False), (0.01, True, 0.0, False), (0.01, False, 0.1, True)],
)
def test_a_choice_of_an_unquiet_hour_is_made_again_in_a_calm_one(
    noise: float, decided: bool, now: float, again: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, w1=1.0, w2=1.3, w3=1.5)
    unquiet(monkeypatch, 0.5)
    assert chooser.choose("chip", "dsd", WAYS, machine.trial) == WAYS[0]
    change(folder, noise=noise, decided=decided, choice={"tile": 3})
    chooser.forget()
    unquiet(monkeypatch, now)
    assert chooser.choose("chip", "dsd", WAYS, machine.trial) == WAYS[0 if again else 2]
    assert machine.trials == 1 + again


@pytest.mark.parametrize("fields", [{"noise": None}, {"unrest": "much"}, {"choice": 3}])
def test_a_damaged_note_is_used_or_made_again_but_never_fails(
    fields: dict[str, object], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, w1=1.0, w2=1.3, w3=1.5)
    chooser.choose("chip", "dsd", WAYS, machine.trial)
    change(folder, **fields)
    chooser.forget()
    assert chooser.choose("chip", "dsd", WAYS, machine.trial) == WAYS[0]


def test_a_choice_that_loses_later_is_dropped_and_made_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, w1=1.0, w2=1.3, w3=1.5)
    chooser.choose("chip", "dsd", WAYS, machine.trial)
    before = chooser.changes()
    assert not chooser.lost("chip", "dsd", WAYS[0], 1.04)  # too little to tell
    assert not chooser.lost("chip", "dsd", WAYS[1], 1.5)  # is not what is used
    assert chooser.changes() == before
    machine.seconds[WAYS[0]] = 2e-3
    assert chooser.lost("chip", "dsd", WAYS[0], 1.5)
    assert noted(folder) == {}
    assert chooser.changes() > before
    assert chooser.choose("chip", "dsd", WAYS, machine.trial) == WAYS[1]


def test_what_is_used_for_similar_problems_is_tried_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, w1=1.0, w2=1.3, w3=0.5)
    chooser.choose("chip", "dsd 128", WAYS, machine.trial, family="dsd")
    assert machine.entered == WAYS
    machine.entered.clear()
    chooser.choose("chip", "dsd 256", WAYS, machine.trial, family="dsd")
    assert machine.entered == [WAYS[2], WAYS[0], WAYS[1]]


def test_unrest_is_how_much_longer_looks_take_than_the_shortest(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: Callable[[], float] = iter([tick for look in range(60) for tick in (look, look + 1.0 + look % 2)]).__next__
    monkeypatch.setattr(unrest.time, "perf_counter", ticks)
    assert unrest.unrest() == pytest.approx(0.5)
