"""What a plan needs, drawn and told: days of canary driving to see 1.5, 2 and 3 times the events, stage by stage."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from control_plane.web.charts import HALF, Whisker, whiskers
from control_plane.web.names import SCALE
from control_plane.web.render import amount

DAY_S = 86_400.0


def needs_of(forecast: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what stages with a control group need, by stage and effect."""
    found = [need for need in forecast.get("needs", []) if need["control_devices"]]
    return sorted(found, key=lambda need: (need["stage"], need["ratio"]))


def needs_picture(forecast: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Draw the days each stage needs, with its deadlines as lines; None where nothing is known."""
    needs = [need for need in needs_of(forecast) if need["days_needed"]]
    if not needs:
        return None
    items = [
        Whisker(
            f"stage {need['stage'] + 1}, {need['ratio']:g} times",
            need["days_needed"],
            need["days_needed"],
            need["days_needed"],
            "s0",
            span(need["days_needed"]),
            note=f"{need['canary_devices']} canary devices",
        )
        for need in needs
    ]
    deadlines = sorted({stages[need["stage"]]["deadline_s"] / DAY_S for need in needs})
    lines = [(days, f"deadline {span(days)}") for days in deadlines]
    return whiskers("Days each stage needs to see an effect", items, "days", lines=lines, log=True, width=HALF)


def span(days: float) -> str:
    if days >= 1:
        return f"{amount(days)} days"
    return f"{amount(days * 24)} hours" if days * 24 >= 1 else f"{amount(days * 1440)} minutes"


def exposure_words(exposure: float | None, unit: str) -> str:
    scale, name = SCALE[unit]
    return "no amount is enough" if exposure is None else f"{amount(exposure / scale)} {name}"
