"""The first screen: who wins where, by how much, and in which words it is told."""

from __future__ import annotations

import json
import math
import re

import pytest
from report_rows import Row, rows_of, searched

from sparsebench.suites.report.breakeven import break_evens
from sparsebench.suites.report.colours import looks
from sparsebench.suites.report.first.axis import LEFT, RIGHT, place
from sparsebench.suites.report.first.chart import chart
from sparsebench.suites.report.first.groups import Group, chapters_of, groups_of, in_order, reading_order
from sparsebench.suites.report.first.lines import line_of
from sparsebench.suites.report.first.screen import Screen, first_screen
from sparsebench.suites.report.first.self_test import error_rates
from sparsebench.suites.report.first.sentences import plain, sentence, told
from sparsebench.suites.report.first.trust_line import trust_line
from sparsebench.suites.report.first.winners import Range, ranges, winner
from sparsebench.suites.report.journal import frame_of
from sparsebench.suites.report.table import Section

BLOCKS = {"pattern": "block 32×32", "block": [32, 32], "shape": [512, 512, 128]}


def group_of(*rows: list[Row]) -> Group:
    frame = frame_of([row for some in rows for row in some])
    [group] = groups_of(break_evens(frame), frame)
    return group


def ordinary(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{THIN SPACE}", " ")


def screen_of(rows: list[Row]) -> Screen | Section:
    frame = frame_of(rows)
    found = break_evens(frame)
    return first_screen(frame, found, chapters_of(groups_of(found, frame)), looks(frame["representation"]))


# Lines


def test_a_line_is_straight_in_log_density_between_levels_and_says_so() -> None:
    line = line_of([(0.5, 1.0), (0.875, 4.0)])  # u = 1, 3 in powers of two
    between = line.at(0.75)
    assert between is not None
    assert (between.speedup, between.measured) == (pytest.approx(2.0), False)
    at = line.at(0.873)
    assert at is not None
    assert (at.speedup, at.measured) == (pytest.approx(4.0), True)


def test_a_line_goes_on_as_cost_does_and_no_further_than_it_may() -> None:
    flat = line_of([(0.5, 1.0), (0.75, 1.0 / 0.75)])  # 1 ÷ speed-up = 0.5 + density
    beyond = flat.at(0.875)
    assert beyond is not None
    assert (beyond.speedup, beyond.measured) == (pytest.approx(1 / 0.625), False)
    steep = line_of([(0.5, 0.1), (0.85, 5.0)])  # faster than density falls: held to what density gives
    at, far, end = (steep.at(level) for level in (0.925, 0.96, 0.99))
    assert at is not None
    assert far is not None
    assert end is not None
    assert at.speedup == pytest.approx(10.0)
    assert far.speedup == end.speedup == pytest.approx(15.0)  # three times the density of 85 % is as far as it goes
    worse = line_of([(0.5, 2.0), (0.8, 1.0)]).at(0.9)
    assert worse is not None
    assert worse.speedup == pytest.approx(1.0)  # no line falls for being sparser


def test_a_single_level_is_continued_by_the_slope_believed_in_and_none_by_nothing() -> None:
    one = line_of([(0.9, 2.0)]).at(0.8)
    assert one is not None
    assert one.speedup == pytest.approx(2.0 * math.exp(-0.8 * math.log(2)))
    assert line_of([(0.9, 0.0), (0.8, math.nan)]).at(0.9) is None


# Winners


def test_the_winner_changes_where_lines_cross_and_dense_wins_before() -> None:
    early = searched(0.5, "block-sparse", **BLOCKS)
    rows = rows_of({0.5: 0.2, 0.8: 0.7, 0.9: 4.0, 0.95: 16.0, 0.99: 80.0}, "torch-csr", **BLOCKS)
    group = group_of(early, rows)
    first, second, third = ranges(group)
    assert (first.name, first.low, first.high) == ("dense", 0.0, pytest.approx(0.5, abs=0.011))
    assert second.name == "block-sparse"
    assert third.name == "torch-csr"
    assert second.high == third.low == pytest.approx(0.915, abs=0.02)  # between 90 and 95 % in log(density)
    assert third.high == 0.99
    best = winner(group, 0.8)
    assert best is not None
    assert (best.name, best.speedup, best.measured) == ("block-sparse", pytest.approx(2.5), True)
    assert winner(group, 0.3) is None


def test_a_representation_slower_at_every_level_never_wins() -> None:
    group = group_of(rows_of({0.5: 0.1, 0.9: 0.2, 0.99: 0.4}, **BLOCKS))
    assert ranges(group) == [Range(low=0.0, high=0.99, name="dense")]
    assert ordinary(plain(sentence(group))) == "Stay dense: nothing is faster up to 99 %."


def test_what_lies_far_above_all_that_was_measured_is_not_told() -> None:
    group = group_of(rows_of({0.5: 0.5, 0.6: 0.8, 0.65: 0.9}, **BLOCKS))
    assert [part.name for part in ranges(group)] == ["dense", ""]
    assert winner(group, 0.95) is None
    assert told(group, 0.95) == ""
    assert "as far as it was measured" in plain(sentence(group))


def test_far_below_the_levels_of_who_was_faster_at_each_nothing_is_told() -> None:
    group = group_of(rows_of({0.8: 5.0, 0.95: 8.0}, **BLOCKS))
    assert [(part.name, part.low) for part in ranges(group)] == [("", 0.0), ("torch-csr", pytest.approx(0.6))]
    assert winner(group, 0.5) is None
    assert "torch-csr below 80 %</text>" in ordinary(chart(group))
    said = ordinary(plain(sentence(group)))
    late = rows_of({0.9: 1.3, 0.95: 2.4}, "planes", **BLOCKS)  # its line points to 87 %: below that dense is told
    assert ranges(group_of(late))[0].name == "dense"
    assert said.startswith("Use torch-csr from about 60 % on (below 80 %). At 80 % torch-csr is 5.0× as fast as dense")


def test_a_lead_within_noise_does_not_change_the_winner() -> None:
    one = searched(0.5, "block-sparse", **BLOCKS)
    other = searched(0.51, "planes", **BLOCKS)
    for row in other:
        if row["sparsity"] in (0.9, 0.95):
            row["speedup"] = 1.03 * 0.5 / (1 - float(str(row["sparsity"])))
    assert [part.name for part in ranges(group_of(one, other))] == ["dense", "block-sparse"]


# Sentences


def test_a_sentence_answers_which_format_for_blocks_at_80_percent_and_128_columns() -> None:
    rows = [*searched(0.6, "block-sparse", **BLOCKS), *searched(0.7, "planes", **BLOCKS)]
    found = screen_of(rows)
    assert isinstance(found, Screen)
    [line, trust] = map(ordinary, found.section.text)
    assert line == (
        "32×32 blocks, N = 128 (sparse × dense product, 512 × 512): Use block-sparse from 60 % on; below that stay "
        "dense. At 80 % block-sparse is 2.0× as fast as dense, 1.3× the next, planes."
    )
    assert trust.startswith("2 of 2 break-evens answered, 0 open; visits of one cell lie ± 4.0 % apart; speed-ups:")
    assert "<b>32×32 blocks, N\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}128</b>" in found.shown


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ({0.05: 1.5, 0.8: 4.0, 0.9: 8.0}, "Use torch-csr at any sparsity. At 80 % torch-csr is 4.0× as fast"),
        ({0.5: 0.5, 0.9: 2.4}, r"Use torch-csr from about \d\d % on \(between 50 and 90 %\); below that stay dense."),
        ({0.8: 0.9, 0.9: 1.02, 0.85: 0.97, 0.95: 1.01}, "At 9. % torch-csr is no more than level with dense."),
    ],
)
def test_sentences_say_how_sure_they_are(levels: dict[float, float | None], expected: str) -> None:
    rows = rows_of(levels, **BLOCKS)
    for row in rows:
        row |= {"speedup_low": 0.99 * float(str(row["speedup"])), "speedup_high": 1.01 * float(str(row["speedup"]))}
    assert re.search(expected, ordinary(plain(sentence(group_of(rows)))))


def test_what_is_not_checked_is_marked_in_its_sentence() -> None:
    for said, mark in (("ok", False), ("expected 12 bytes, got 10", True), (None, True)):
        rows = searched(0.6, "acme", **BLOCKS, checked=said)
        assert ("acme (not checked)" in plain(sentence(group_of(rows)))) is mark
        assert ("acme (not checked) 60" in ordinary(chart(group_of(rows)))) is mark
    own = searched(0.6, "planes", **BLOCKS)
    assert "not checked" not in plain(sentence(group_of(own)))


def test_error_rates_of_a_self_test_join_the_line_of_trust() -> None:
    for nothing in ({}, {"selftest": None}, {"selftest": {"rates": 3}}, {"selftest": {"rates": []}}):
        assert error_rates(nothing) is None
    rates = [
        {"level": "representation", "percent": percent, "visits": visits, "found": found, "tried": 500}
        for percent, visits, found in ((0, 2, 0.03), (0, 6, 0.004), (10, 6, 0.957), (20, 6, 1.0), (10, 2, 0.5))
    ]
    told = error_rates({"selftest": {"factor": 3.5, "rates": rates}})
    assert told is not None
    assert ordinary(told) == (
        "self-test of a representation, 6 visits a side: 0.4 % false verdicts, "
        "10 % slower found in 95.7 %, 20 % slower found in 100 %"
    )
    frame = frame_of(searched(0.6, "block-sparse", **BLOCKS))
    assert trust_line(frame, break_evens(frame), told).endswith(f"; {told}.")


def test_curves_that_are_not_searched_are_not_open_answers() -> None:
    given = [row | {"level_range": None} for row in searched(0.95, "csr", pattern="element")[:1]]
    rows = [row | {"level_range": [0.05, 0.99]} for row in searched(0.6, "block-sparse", **BLOCKS)] + given
    frame = frame_of(rows)
    line = ordinary(trust_line(frame, break_evens(frame)))
    assert line.startswith("1 of 1 break-even answered, 0 open; 1 more curve at given sparsities only;")


# The chart


def test_sparsity_stands_in_order_with_room_at_its_end() -> None:
    places = [place(level) for level in (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)]
    assert (places[0], places[-1]) == (LEFT, RIGHT)
    assert places == sorted(places)
    assert places[-1] - places[3] > 0.25 * (RIGHT - LEFT)  # linear, it would have a tenth
    assert place(1.0) == RIGHT


def test_a_line_shows_every_break_even_once_at_its_place_or_its_end() -> None:
    group = group_of(
        searched(0.6, "block-sparse", **BLOCKS), rows_of({0.05: 2.0, 0.9: 8.0}, "planes", **BLOCKS),
        rows_of({0.5: 0.1, 0.99: 0.5}, "scipy-csr", **BLOCKS), rows_of({0.5: 0.5, 0.9: 2.0}, "csr", **BLOCKS),
    )  # fmt: skip
    drawn = chart(group)
    dots = re.findall(r'<a class="dot( open)?" href="#b[0-9a-f]{8}".*?</a>', drawn)
    assert sorted(dots) == ["", "", "", " open"]
    at = {name: re.search(rf'<title>{name}:.*?<use[^>]* x="([\d.]+)%?"', drawn) for name in ("block-sparse", "planes")}
    assert at["block-sparse"] is not None
    assert float(at["block-sparse"][1]) == pytest.approx(place(0.6), abs=1)
    assert at["planes"] is not None
    assert at["planes"][1] == "0"  # faster from the start: at the edge
    assert 'class="dot open"' in drawn[drawn.index("csr: open: 50") - 200 :]
    assert "Fastest: planes 0 to" in ordinary(drawn)


def test_groups_with_most_sizes_come_first_and_the_rest_is_folded() -> None:
    rows = []
    for n in (1, 16, 128):
        rows += searched(0.9, "csr", pattern="element", shape=[64, 64, n])
        rows += searched(0.6, "block-sparse", **{**BLOCKS, "shape": [64, 64, n]})
    rows += searched(0.3, "planes", pattern="plane 1×16", shape=[64, 64, 128])
    rows += searched(0.3, "planes", pattern="channel 1×9", operation="conv2d", shape=[8, 8, 3, 3, 1, 14, 14])
    frame = frame_of(rows)
    chapters = chapters_of(groups_of(break_evens(frame), frame), most=6)
    assert [chapter.open for chapter in chapters] == [True, False, False]
    assert [ordinary(group.title) for group in chapters[0].groups] == [
        "32×32 blocks, N = 1", "32×32 blocks, N = 16", "32×32 blocks, N = 128",
        "single elements, N = 1", "single elements, N = 16", "single elements, N = 128",
    ]  # fmt: skip
    assert [group.title for group in chapters[2].groups] == ["1×9 channels"]


def test_the_form_holds_the_two_fastest_at_every_percent() -> None:
    found = screen_of([*searched(0.6, "block-sparse", **BLOCKS), *searched(0.7, "<i>planes", **BLOCKS)])
    assert isinstance(found, Screen)
    assert "<" not in found.picker
    [group] = json.loads(found.picker)["matmul"]["groups"]
    assert [len(step) for step in (group["steps"][50], group["steps"][65], group["steps"][80])] == [0, 1, 2]
    (first, speedup, measured), _ = group["steps"][80]
    assert (group["names"][first], speedup, measured) == ("block-sparse", 2.0, 1)


def test_chapters_follow_the_order_of_the_first_screen() -> None:
    rows = searched(0.3, "planes", pattern="channel 1×9", operation="conv2d", shape=[8, 8, 3, 3, 1, 14, 14])
    for n in (128, 1):
        rows += searched(0.6, "block-sparse", **{**BLOCKS, "shape": [64, 64, n]})
    frame = frame_of(rows)
    order = reading_order(chapters_of(groups_of(break_evens(frame), frame)))
    shapes = [part["shape"].iloc[0] for part in in_order(frame, order)]
    assert shapes == ["64x64x1", "64x64x128", "8x8x3x3x1x14x14"]


def test_a_curve_without_a_right_cell_is_no_dot_and_wins_nothing() -> None:
    bad = rows_of({0.5: None, 0.9: None}, "torch-bsr", **BLOCKS)
    group = group_of(searched(0.6, "block-sparse", **BLOCKS), bad)
    assert [one.representation for one in group.members] == ["block-sparse"]
    assert "torch-bsr" not in chart(group)


def test_nothing_to_judge_is_said_in_a_line() -> None:
    nothing, failed = screen_of([]), screen_of(rows_of({0.5: None, 0.9: None}))
    assert isinstance(nothing, Section)
    assert nothing.text == ("Nothing is measured yet: the journal holds no cells.",)
    assert isinstance(failed, Section)
    assert "no break-even to tell" in failed.text[0]
