"""Read what a self-test found of a machine's error rates, where a run has noted it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparsebench.suites.report.verdict import REPRESENTATION
from sparsebench.suites.text import SPACE


def error_rates(machine: Mapping[str, Any]) -> str | None:
    """Return the rates for a representation at the most visits, as a clause for the line of trust; None without any.

    Args:
        machine: the facts of a run, whose `selftest` is what `sparsebench selftest` keeps:
            {"rates": [{"level", "percent", "visits", "found"}]}.
    """
    try:
        rates = [rate for rate in machine["selftest"]["rates"] if rate["level"] == REPRESENTATION]
        most = max(rate["visits"] for rate in rates)
        found = {int(rate["percent"]): 100 * float(rate["found"]) for rate in rates if rate["visits"] == most}
    except (ValueError, KeyError, TypeError):
        return None
    false = [f"{found[0]:.2g}{SPACE}% false verdicts"] if 0 in found else []
    slower = [f"{percent}{SPACE}% slower found in {found[percent]:.3g}{SPACE}%" for percent in sorted(found) if percent]
    return f"self-test of a representation, {most} visits a side: " + ", ".join([*false, *slower]) if found else None
