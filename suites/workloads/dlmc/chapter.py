"""Tell a run over the collection: who wins on the matrices of real networks, and what the zeros cost in quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from sparsebench.suites.report.anchors import cell_anchor
from sparsebench.suites.report.colours import Look
from sparsebench.suites.report.journal import Run
from sparsebench.suites.report.table import Section, Table, Value, figure, words
from sparsebench.suites.text import NONE, count, percent, ratio, significant
from sparsebench.suites.workloads.dlmc.chart import Offer, offers, picture
from sparsebench.suites.workloads.dlmc.summary import OWN, Mean, column_kinds, means, told

METRIC_WORDS: dict[str, str] = {"network_top1_percent": "top-1, %", "network_bleu": "BLEU"}
OFFERS = 2
"""Networks, or representations, that a chart needs."""
HEAD = ("representation", "matrices", "speed-up", "lowest – highest", "faster than dense", "fastest", "bytes ÷ dense")


def chapter(run: Run, looks: Mapping[str, Look]) -> tuple[Section | None, list[str]]:
    """Return the chapter, and a note for each file that was wrong.

    Args:
        run: with this suite's rows alone.
        looks: of the representations.
    """
    rows = told(run.frame)
    broken = run.frame[(run.frame["status"] == "crashed") & run.frame["reason"].astype(str).str.contains(".smtx: ")]
    notes = sorted({str(reason).removeprefix("DataError: ") for reason in broken["reason"]})
    if rows.empty:
        return None, notes
    groups = [
        (str(model), kind, some[some["columns"] == kind])
        for model, some in rows.groupby("model")
        for kind in column_kinds(some)
    ]
    drawn = [(model, kind, some, offers(some)) for model, kind, some in groups]
    pictures = tuple(
        picture(every, f"{model}, {_columns(kind)}", _metric(some), looks)
        for model, kind, some, every in drawn
        if len(every) >= OFFERS
    )
    text = [
        f"{count(rows['workload'].nunique(), 'matrix', 'matrices')} of the Deep Learning Matrix Collection (Gale, "
        "Zaharia and Elsen 2020, arXiv 2006.10901): where pruned networks that were really trained have their weights. "
        "Values are drawn. Columns are those of the network (places of the output map, one image; 256 for the "
        "transformer), and 1, 32 and 128. Means are geometric, over the matrices that a representation has a number "
        "for; the quality is the whole network's, as dlmc.csv has it."
    ]
    if pictures:
        text.append(
            "Each mark is one network in one representation, over its matrices in this run. Further left is faster, "
            "further up is better, and the area is the stored bytes, dense = 1. Full marks are beaten by no other: "
            "none has that quality, time and size, and is better in one of the three."
        )
    else:
        text.append("No chart of quality: the run knows of none. It stands in dlmc.csv of the collection.")
    front = [(model, kind, one) for model, kind, _, every in drawn for one in every if not one.beaten]
    tables = [_overall(groups), _levels(groups), *([_front(front)] if pictures else [])]
    section = Section(
        anchor="dlmc",
        title="Real networks: quality, time, bytes",
        text=tuple(text),
        tables=tuple(tables),
        pictures=pictures,
        pictures_first=True,
        legend=bool(pictures),
        shown=4,
    )
    return section, notes


def _overall(groups: Sequence[tuple[str, str, pd.DataFrame]]) -> Table:
    rows = [(words(model), words(_columns(kind)), *_mean(mean)) for model, kind, some in groups for mean in means(some)]
    return Table(title="Over all matrices", head=("network", "columns", *HEAD), rows=tuple(rows), brief=150)


def _levels(groups: Sequence[tuple[str, str, pd.DataFrame]]) -> Table:
    rows = [
        (
            words(model), words(_columns(kind)), figure(percent(float(str(level))), float(str(level))),
            _qualities(some["quality"].dropna()), *_mean(mean),
        )
        for model, kind, every in groups
        for level, some in every.groupby("level")
        for mean in means(some)
    ]  # fmt: skip
    return Table(
        title="By sparsity of the network",
        head=("network", "columns", "sparsity", "quality", *HEAD),
        rows=tuple(rows),
        note="The sparsity is the whole network's, over all methods; single matrices differ. Quality: top-1 accuracy "
        "in percent (rn50), BLEU (transformer), from the worst method to the best.",
        brief=60,
    )


def _front(found: Sequence[tuple[str, str, Offer]]) -> Table:
    head = ("network", "columns", "quality", "method", "sparsity", "representation", "speed-up", "bytes ÷ dense",
            "matrices")  # fmt: skip
    rows = [
        (
            words(model), words(_columns(kind)), figure(significant(one.quality, 4), one.quality), words(one.method),
            figure(percent(one.level), one.level), words(one.mean.representation),
            figure(ratio(one.mean.speedup), one.mean.speedup, href=cell_anchor(one.mean.key)),
            figure(significant(one.mean.bytes_ratio), one.mean.bytes_ratio),
            figure(str(one.mean.matrices), one.mean.matrices),
        )
        for model, kind, one in sorted(found, key=lambda item: (*item[:2], -item[2].quality, -item[2].mean.speedup))
    ]  # fmt: skip
    return Table(title="What nothing else beats in quality, time and bytes", head=head, rows=tuple(rows), brief=60)


def _mean(mean: Mean) -> tuple[Value, ...]:
    to = cell_anchor(mean.key)
    matrices = str(mean.matrices) if mean.matrices == mean.of else f"{mean.matrices} of {mean.of}"
    span = f"{significant(mean.lowest)} – {significant(mean.highest)}"
    return (
        words(mean.representation), figure(matrices, mean.matrices), figure(ratio(mean.speedup), mean.speedup, href=to),
        figure(span, mean.lowest), figure(percent(mean.won), mean.won), figure(percent(mean.fastest), mean.fastest),
        figure(significant(mean.bytes_ratio), mean.bytes_ratio),
    )  # fmt: skip


def _qualities(known: pd.Series[float]) -> Value:
    if known.empty:
        return figure(NONE, None)
    low, high = float(known.min()), float(known.max())
    text = significant(low, 4) if low == high else f"{significant(low, 4)} – {significant(high, 4)}"
    return figure(text, high)


def _columns(kind: str) -> str:
    return "as the network has" if kind == OWN else count(int(kind), "column")


def _metric(rows: pd.DataFrame) -> str:
    known = rows["quality_metric"].dropna()
    return METRIC_WORDS.get(str(known.iloc[0]), "quality") if len(known) else "quality"
