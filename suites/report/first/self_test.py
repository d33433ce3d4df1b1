"""Read what a self-test found of this machine's error rates, where a run's folder has it."""

from __future__ import annotations

import json
from pathlib import Path

from sparsebench.suites.text import SPACE

SELF_TEST = "selftest.json"
"""In a run's folder: what `sparsebench selftest` found, as it keeps it: {"rates": [{"percent", "visits", "found"}]}."""


def error_rates(folder: Path) -> str | None:
    """Return the rates at the most visits as a clause for the line of trust, None if there is no self-test to read.

    Args:
        folder: of the run.
    """
    try:
        rates = json.loads((folder / SELF_TEST).read_text(encoding="utf-8"))["rates"]
        most = max(rate["visits"] for rate in rates)
        found = {int(rate["percent"]): 100 * float(rate["found"]) for rate in rates if rate["visits"] == most}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    false = [f"{found[0]:.2g}{SPACE}% false verdicts"] if 0 in found else []
    slower = [f"{percent}{SPACE}% slower found in {found[percent]:.3g}{SPACE}%" for percent in sorted(found) if percent]
    return "self-test: " + ", ".join([*false, *slower]) if found else None
