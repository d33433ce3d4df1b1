"""What the report reckons: break-even and trust; and what its figures and words look like."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.markers import MarkerStyle
from report_rows import rows_of

from sparsebench.suites.report.breakeven import break_evens
from sparsebench.suites.report.colours import OWN, looks
from sparsebench.suites.report.crossing import crossing
from sparsebench.suites.report.figures import SPEEDUP, curves, positions, thinned
from sparsebench.suites.report.heat import heat
from sparsebench.suites.report.journal import frame_of
from sparsebench.suites.report.memory import memory_section
from sparsebench.suites.report.pictures import tiles
from sparsebench.suites.report.table import Table, markdown, words
from sparsebench.suites.report.trust import half_width, mark, weakest
from sparsebench.suites.text import percent, ratio, seconds, significant, size


def test_break_even_is_interpolated_in_the_logarithm() -> None:
    found = crossing([(0.5, 0.25), (0.9, 4.0)])
    assert found.verdict == "crosses"
    assert found.sparsity == pytest.approx(0.7)  # 1 lies half way between 1/4 and 4 on a log scale
    assert found.between == (0.5, 0.9)
    assert crossing([(0.8, 0.5), (0.9, 1.2)]).sparsity == pytest.approx(0.8 + 0.1 * math.log(2) / math.log(2.4))
    assert crossing([(0.9, 4.0), (0.5, 0.25)]) == found  # order does not matter


def test_break_even_at_the_ends() -> None:
    always, never = crossing([(0.5, 1.0), (0.9, 2.0)]), crossing([(0.5, 0.1), (0.9, 0.999)])
    assert (always.verdict, always.sparsity, always.text.split()) == ("always", 0.5, ["≤", "50", "%"])
    assert (never.verdict, never.sparsity, never.text.split()) == ("never", 0.9, ["not", "up", "to", "90", "%"])
    assert crossing([(0.5, 0.5), (0.9, 1.0)]).sparsity == pytest.approx(0.9)
    assert crossing([(0.0, 2.0)]).sparsity == 0.0
    assert sorted([never, always, crossing([])], key=lambda one: one.order) == [always, never, crossing([])]


def test_break_even_of_a_curve_that_turns_back_counts_only_the_last_unbroken_row() -> None:
    found = crossing([(0.5, 2.0), (0.7, 0.5), (0.8, 2.0), (0.9, 3.0)])
    assert found.sparsity == pytest.approx(0.75)
    assert crossing([(0.5, 2.0), (0.7, 3.0), (0.9, 0.9)]).verdict == "never"


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf, 0.0, -1.0])
def test_what_was_not_measured_is_no_number(nothing: float | None) -> None:
    assert crossing([(0.5, 0.25), (0.6, nothing), (0.9, 4.0)]).sparsity == pytest.approx(0.7)
    assert crossing([(0.5, 0.25), (0.9, 4.0), (0.99, nothing)]).sparsity == pytest.approx(0.7)
    assert crossing([(0.5, nothing)]).verdict == "unmeasured"


def test_break_evens_carry_intervals_missing_levels_and_trust() -> None:
    other = rows_of({0.5: 0.1, 0.8: 0.2, 0.9: 0.3, 0.99: 0.4}, name="scipy-csr")
    [csr, scipy] = break_evens(frame_of(rows_of({0.5: 0.25, 0.8: None, 0.9: 4.0}) + other))
    assert (csr.levels, csr.missing, scipy.levels, scipy.missing) == (2, 2, 4, 0)
    # half way between 1/4 and 4, on a line in log(density): 1 - sqrt(0.5 · 0.1)
    assert csr.answer.sparsity == pytest.approx(1 - math.sqrt(0.05), abs=0.02)
    assert (csr.best, csr.best_at, csr.trust) == (4.0, 0.9, "fair")
    assert (scipy.answer.verdict, scipy.answer.sparsity, scipy.best) == ("not up to", 0.99, 0.4)


def test_an_answer_needs_levels_on_both_sides_and_three_visits() -> None:
    def verdict(levels: dict[float, float | None], **more: object) -> tuple[str, float, float]:
        [found] = break_evens(frame_of(rows_of(levels, **more)))
        return found.answer.verdict, found.answer.low, found.answer.high

    assert verdict({0.5: 0.5, 0.9: 1.5}) == ("open", 0.5, 0.9)
    assert verdict({0.5: 0.5}) == ("open", 0.5, 1.0)
    assert verdict({0.5: 2.0}) == ("open", 0.0, 0.5)
    assert verdict({0.7: 0.8, 0.75: 1.0, 0.8: 1.2, 0.9: 2.4}, time_spread=0.01)[0] == "crosses"
    # a pattern that cannot be sparser ends there, and one that cannot be denser begins there
    assert verdict({0.25: 0.5, 0.75: 0.6}, pattern="n:4")[0] == "not up to"
    assert verdict({0.25: 2.5, 0.75: 6.0}, pattern="n:4")[0] == "from the start"
    assert verdict({0.5: 0.2, 0.96875: 0.6}, level_range=[0.03125, 0.96875])[0] == "not up to"


def test_break_even_leaves_dense_and_cells_without_a_level_out() -> None:
    assert break_evens(frame_of(rows_of({0.5: 1.2}, name="dense"))) == []
    assert break_evens(frame_of(rows_of({0.5: 1.2}, sparsity=None))) == []


def test_seeds_at_one_level_count_as_visits() -> None:
    rows = [row for seed, speedup in enumerate((0.8, 1.2, 2.0)) for row in rows_of({0.9: speedup}, seed=seed)]
    [found] = break_evens(frame_of(rows))
    assert (found.best, found.levels, found.answer.visits) == (1.2, 1, 3)
    assert found.answer.verdict == "open"


def test_trust_marks() -> None:
    assert mark(2.0, 1.95, 2.05, 10, 0.10) == "firm"
    assert mark(2.0, 1.95, 2.05, 9, 0.10) == "fair"  # too few rounds
    assert mark(2.0, 1.95, 2.05, 30, 0.20) == "fair"  # too much spread
    assert mark(2.0, 1.85, 2.0, 30, 0.05) == "fair"  # wide below
    assert mark(2.0, 2.0, 2.3, 30, 0.05) == "loose"  # wide above
    assert mark(2.0, None, 2.05, 30, 0.05) == "loose"
    assert mark(2.0, math.nan, 2.05, 30, 0.05) == "loose"
    assert mark(math.nan, 1.0, 2.0, 30, 0.0) == mark(None, None, None, None, None) == ""
    assert half_width(1.0, 0.8, 1.1) == pytest.approx(0.25)
    assert half_width(1.0, -0.1, 1.1) == math.inf
    assert weakest(["firm", "", "loose", "fair"]) == "loose"
    assert weakest([""]) == ""


def test_heat_has_a_step_for_every_sparsity() -> None:
    assert [heat("crosses", level) for level in (0.0, 0.6, 0.61, 0.9, 0.97, 0.98, 1.0)] == [
        "heat-0", "heat-0", "heat-1", "heat-3", "heat-4", "heat-5", "heat-5",
    ]  # fmt: skip
    assert heat("never", 0.5) == "heat-never"


def test_colours_are_constant_and_differ() -> None:
    assert looks(["acme", "dense"])["dense"] == looks(["dense", "planes"])["dense"] == OWN["dense"]
    every = looks([*OWN, "acme", "zeta"])
    assert all(MarkerStyle(look.marker).is_filled() for look in every.values())  # edges are not drawn: others vanish
    assert list(every)[-2:] == ["acme", "zeta"]
    assert len({look.colour for look in every.values()}) == len({look.marker for look in OWN.values()}) + 2
    assert every["acme"].dash == "--"


def test_sparsities_stand_evenly_in_density() -> None:
    assert positions([0.5, 0.75, 0.875, 1.0]) == pytest.approx({0.5: 1.0, 0.75: 2.0, 0.875: 3.0, 1.0: 4.0})
    assert positions([1.0]) == {1.0: 1.0}
    assert positions([0.0, 0.0]) == {0.0: 0.0}


def test_labels_without_room_are_left_out() -> None:
    assert thinned([(0.5, 0.0), (0.6, 0.3), (0.7, 0.8), (0.9, 1.0), (0.99, 2.0)], gap=0.5) == {0.5, 0.7, 0.99}
    assert thinned([(0.5, 1.0)], gap=1.0) == {0.5}


@pytest.mark.parametrize("levels", [{0.5: 0.5, 0.8: None, 0.9: 2.0}, {0.5: 0.5, 0.9: 2.0}], ids=["failed", "no row"])
def test_a_line_is_broken_at_a_missing_level(levels: dict[float, float | None]) -> None:
    frame = frame_of(rows_of(levels) + rows_of({0.5: 1.0, 0.8: 1.0, 0.9: 1.0}, name="dense"))
    figure = curves(frame, SPEEDUP, looks(frame["representation"]))
    lines = {line.get_color(): list(line.get_ydata()) for line in figure.axes[0].lines}
    broken = lines[OWN["torch-csr"].colour]
    assert broken[0] == 0.5
    assert math.isnan(broken[1])
    assert broken[2] == 2.0
    assert lines[OWN["dense"].colour] == [1.0, 1.0, 1.0]
    assert figure.axes[0].get_yscale() == "log"


def test_bytes_equal_to_dense_are_not_smaller() -> None:
    same = [
        row | {"stored_bytes": 100, "dense_bytes": 100} for row in rows_of({0.5: 1.0, 0.9: 1.0}, name="dense-masked")
    ]
    less = [
        row | {"stored_bytes": 1000 * (1 - row["sparsity"]), "dense_bytes": 250}
        for row in rows_of({0.5: 1.0, 0.9: 1.0})
    ]
    frame = frame_of(same + less)
    [table] = memory_section(frame, looks(frame["representation"])).tables
    assert table.head == ("representation", "element")
    values = {name.text: value.text for name, value in table.rows}
    assert values["dense-masked"] == "never"
    # stored ÷ dense falls from 2 to 0.4: log 2 of log 5, over 0.4 of sparsity
    assert values["torch-csr"].startswith(f"{100 * (0.5 + 0.4 * math.log(2) / math.log(5)):.0f}")


def test_tiles_lay_images_out_row_by_row() -> None:
    images = np.stack([np.full(4, value) for value in (0.0, 1.0, 2.0)])
    sheet = tiles(images, 2, own_scale=False)
    assert sheet.shape == (5, 5)
    assert (sheet[0, 0], sheet[0, 3], sheet[3, 0]) == (0.0, 0.5, 1.0)
    assert np.isnan(sheet[2, :]).all()
    assert np.isnan(sheet[3:, 3:]).all()
    with pytest.raises(ValueError, match="square"):
        tiles(np.zeros((1, 5)), 1, own_scale=True)


def test_numbers_are_written_as_people_read_them() -> None:
    def plain(text: str) -> str:
        return text.replace("\N{NO-BREAK SPACE}", " ")

    assert [plain(percent(share)) for share in (0.0, 0.5, 0.875, 0.87341, 0.95184, 0.996341, 0.9375, 1.0)] == [
        "0 %", "50 %", "87.5 %", "87 %", "95.2 %", "99.63 %", "93.75 %", "100 %",
    ]  # fmt: skip
    assert [plain(seconds(value)) for value in (2.5, 0.0123, 4.56e-5, 7e-9, None)] == [
        "2.50 s", "12.3 ms", "45.6 µs", "7.00 ns", "–",
    ]  # fmt: skip
    assert [plain(size(value)) for value in (512, 1536, 3 << 20, 5 << 30)] == [
        "512 B",
        "1.50 KiB",
        "3.00 MiB",
        "5.00 GiB",
    ]
    assert [significant(value) for value in (0, 1.2345, 123456.0, 3.2e-7, math.nan)] == [
        "0", "1.23", "123\N{NO-BREAK SPACE}456", "3.20e-07", "–",
    ]  # fmt: skip
    assert ratio(0.98765) == "0.988×"


def test_markdown_cannot_be_broken_by_what_stands_in_it() -> None:
    table = Table(title="a|b", head=("x",), rows=((words("1 | 2\n<b>*3*"),),) * 3, brief=2)
    lines = markdown(table).splitlines()
    assert lines[0] == "**a\\|b**"
    assert lines[4] == "| 1 \\| 2 \\<b>\\*3\\* |"
    assert lines[-1].startswith("… and 1")
    with pytest.raises(ValueError, match="expected rows of 2"):
        Table(title="t", head=("x", "y"), rows=((words("1"),),))
