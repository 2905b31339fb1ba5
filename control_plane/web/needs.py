"""What a plan needs, drawn and told: how long its stages take to see harm, and to show that there is none."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from control_plane.rollout.domain import PROVES, NeedLine, amount_of, need_lines, time_of, unit_of
from control_plane.web.charts import HALF, Whisker, whiskers

DAY_S = 86_400.0
SHORT = re.compile("^(show|drive|decide on) ")
"""What a label has no room for."""


def needs_of(forecast: Mapping[str, Any]) -> list[NeedLine]:
    """Return what stages with a control group need, by stage and effect."""
    return need_lines(forecast.get("needs", []))


def needs_picture(forecast: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Draw the days each stage needs, with its deadlines as lines; None where nothing is known."""
    needs = [(need, need.days) for need in needs_of(forecast) if need.days]
    if not needs:
        return None
    deadlines = sorted({stages[need.stage]["deadline_s"] / DAY_S for need, _ in needs})
    size, unit = unit_of(max([*deadlines, *(days for _, days in needs)]))
    items = [
        Whisker(
            f"stage {need.stage + 1}, {SHORT.sub('', need.words)}",
            days / size,
            days / size,
            days / size,
            "s2" if need.words == PROVES else "s0",
            time_of(days),
            note=f"{need.canary_devices} canary devices",
        )
        for need, days in needs
    ]
    lines = [(days / size, f"deadline {time_of(days)}") for days in deadlines]
    return whiskers("Time each stage needs", items, unit, lines=lines, log=True, width=HALF)


def exposure_words(exposure: float | None, unit: str) -> str:
    return "no amount is enough" if exposure is None else amount_of(exposure, unit)
