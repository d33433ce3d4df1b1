"""Say before a run what it is to measure and how long that takes, and afterwards what there was no time for."""

from __future__ import annotations

from collections.abc import Mapping

from sparsebench.suites.cell import cell_key
from sparsebench.suites.measure.timing import EFFORTS
from sparsebench.suites.runner.run import Order
from sparsebench.suites.search.curves import Agenda, curve_key
from sparsebench.suites.text import count

FIRST_S: dict[str, float] = {"quick": 0.3, "full": 1.5, "gpu": 0.6}
"""About what the first visit of a cell takes on two cores, by profile; every further one takes half of it."""
WORKER_S = 8.0
"""About what a suite's first worker takes to start and to compile."""
SEARCH = 4
"""Visits that a break-even takes on average."""


def before(order: Order, agendas: Mapping[str, Agenda]) -> str:
    """Return in one line what a run is to measure, and about how long it will take."""
    cells = sum(len(one.fixed) for one in agendas.values())
    curves = sum(len(one.curves) for one in agendas.values())
    parts = [count(curves, "curve") + " to search"] if curves else []
    parts += [count(cells, "cell") + " of a given sparsity"] if cells else []
    first = WORKER_S * len(agendas) + FIRST_S[order.profile] * (cells + curves)
    visits = cells * ((order.visits or EFFORTS[order.profile].visits) - 1) + curves * (SEARCH - 1)
    whole = first + FIRST_S[order.profile] / 2 * visits
    about = f"about {_long(first)} for a first pass"
    rest = f"about {_long(whole)} in all"
    if order.time_s is not None:
        rest = f"at most {_long(order.time_s)} in all"
        if order.time_s < first:
            rest += ": some will not be measured at all; give --time more, or --suite or --only"
    return f"{' and '.join(parts)}: {about}, {rest}"


def after(order: Order, agendas: Mapping[str, Agenda]) -> str | None:
    """Return in one line what was not measured even once for want of time, None if nothing."""
    rows = order.out.rows()
    seen, begun = {cell_key(row) for row in rows}, {curve_key(row) for row in rows}
    cells = sum(cell.key(order.device) not in seen for one in agendas.values() for cell in one.fixed)
    curves = sum(curve.key(order.device) not in begun for one in agendas.values() for curve in one.curves)
    if not cells + curves:
        return None
    left = " and ".join(
        text for number, text in ((curves, count(curves, "curve")), (cells, count(cells, "cell"))) if number
    )
    return f"the time was too short for one pass: {left} not measured; go on with --out {order.out.path}"


def _long(seconds: float) -> str:
    if seconds < 100:
        return f"{max(10, round(seconds, -1)):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"
