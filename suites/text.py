"""Write numbers as people read them: percents, seconds, bytes, ratios."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

NONE = "–"
"""What tables show where nothing was measured."""

SPACE = "\N{NO-BREAK SPACE}"
"""Between a number and its unit, or between thousands."""


def known(value: Any) -> TypeGuard[float]:
    """Tell whether a value is a number that can be shown."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def percent(share: float) -> str:
    """Return a sparsity as "87 %", with decimals where they matter: 95.2 %, 99.63 %, 99.95 %."""
    return f"{bare_percent(share)}{SPACE}%"


def bare_percent(share: float) -> str:
    """Return `percent` without its sign."""
    exact = round(100.0 * share, 2)
    if abs(100.0 * share - exact) < 1e-9:  # a level that was asked for: 87.5, 93.75
        return f"{exact:g}"
    rest = 100.0 * abs(1.0 - share)
    decimals = min(6, max(0, 1 - math.floor(math.log10(rest))))
    text = f"{100.0 * share:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def ratio(value: float | None) -> str:
    """Return a speed-up as "1.24×", with three significant digits."""
    return f"{significant(value)}×" if known(value) else NONE


def significant(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, without an exponent from 0.001 to a million."""
    if not known(value):
        return NONE
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if not -4 < size < 6:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - size)}f}".replace(",", SPACE)


def seconds(value: float | None, digits: int = 3) -> str:
    """Return a time in its own unit: 1.20 s, 3.40 ms, 56.0 µs, 7.00 ns."""
    if not known(value):
        return NONE
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= scale:
            return f"{significant(value / scale, digits)}{SPACE}{unit}"
    return f"{significant(value / 1e-9, digits)}{SPACE}ns"


def size(value: float | None) -> str:
    """Return bytes in binary units: 512 B, 1.5 KiB, 2.25 MiB."""
    if not known(value):
        return NONE
    for unit, power in (("GiB", 3), ("MiB", 2), ("KiB", 1)):
        if value >= 1024**power:
            return f"{significant(value / 1024**power)}{SPACE}{unit}"
    return f"{value:.0f}{SPACE}B"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: 1 cell, 2 cells."""
    noun = one if number == 1 else many or one + "s"
    return f"{number:,}".replace(",", SPACE) + SPACE + noun


def times(shape: Any) -> str:
    """Return a shape as tables show it: 512 × 512 × 128."""
    return str(shape).replace("x", f"{SPACE}×{SPACE}")
