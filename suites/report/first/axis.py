"""Place sparsities on an axis with room where it matters: from 80 to 99 %."""

from __future__ import annotations

from sparsebench.suites.search.fit import depth

LEFT, RIGHT = 9.0, 83.0
"""Where 0 % and 99 % stand in the chart, in percent of its width; beside them is room for the two ends."""
TICKS: tuple[float, ...] = (0.0, 0.2, 0.5, 0.8, 0.9, 0.95, 0.99)


def stretched(sparsity: float) -> float:
    """Return where a sparsity stands between 0 % (0) and 99 % (1).

    Half of the way counts sparsity and half −log(density): even steps alone would give 90 to 99 % a tenth of the width,
    and even steps in density half of it.
    """
    inside = min(max(sparsity, 0.0), 0.9999)
    return 0.5 * inside / 0.99 + 0.5 * depth(inside) / depth(0.99)


def place(sparsity: float) -> float:
    """Return where a sparsity stands in the chart, in percent of its width; what is above 99 % stands there."""
    return round(LEFT + (RIGHT - LEFT) * stretched(min(sparsity, 0.99)), 2)
