"""How times and exposure are written for people, in pages, sentences and on the command line alike."""

from typing import Final

TIMES: Final = ((1.0, "days"), (1 / 24, "hours"), (1 / 1440, "minutes"))
"""Units of time with their length in days, the longest first."""
AMOUNTS: Final = {"distance_m": (1000.0, "km"), "duration_s": (3600.0, "hours")}


def unit_of(days: float) -> tuple[float, str]:
    """Return the longest unit of which this is at least one, with its length in days."""
    return next((time for time in TIMES if days >= time[0]), TIMES[-1])


def time_of(days: float) -> str:
    size, unit = unit_of(days)
    words = _number(days / size)
    return f"{words} {unit.removesuffix('s') if words == '1' else unit}"


def amount_of(exposure: float, unit: str) -> str:
    """Write metres as kilometres and seconds as hours."""
    size, name = AMOUNTS[unit]
    return f"{_number(exposure / size)} {name}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
