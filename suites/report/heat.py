"""Colour a break-even by how early it comes."""

from __future__ import annotations

HEAT: tuple[float, ...] = (0.6, 0.75, 0.85, 0.92, 0.97, 1.0)
"""Upper ends of the steps of colour: a break-even up to 0.6 is the greenest."""


def heat(verdict: str, sparsity: float | None) -> str:
    """Return the CSS class of a break-even: heat-0 (early) to heat-5 (late), heat-never."""
    if sparsity is None or verdict in ("never", "not up to"):
        return "heat-never"
    if verdict == "from the start":
        return "heat-0"
    return f"heat-{next(step for step, end in enumerate(HEAT) if sparsity <= end or step == len(HEAT) - 1)}"
