"""What a plan needs, drawn and told: days of canary driving to see 1.5, 2 and 3 times the events, stage by stage."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from control_plane.rollout.domain import amount_of, time_of, unit_of
from control_plane.web.charts import HALF, Whisker, whiskers

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
    deadlines = sorted({stages[need["stage"]]["deadline_s"] / DAY_S for need in needs})
    longest = max([*deadlines, *(need["days_needed"] for need in needs)])
    size, unit = unit_of(longest)
    items = [
        Whisker(
            f"stage {need['stage'] + 1}, {need['ratio']:g} times",
            need["days_needed"] / size,
            need["days_needed"] / size,
            need["days_needed"] / size,
            "s0",
            time_of(need["days_needed"]),
            note=f"{need['canary_devices']} canary devices",
        )
        for need in needs
    ]
    lines = [(days / size, f"deadline {time_of(days)}") for days in deadlines]
    return whiskers("Time each stage needs to see an effect", items, unit, lines=lines, log=True, width=HALF)


def exposure_words(exposure: float | None, unit: str) -> str:
    return "no amount is enough" if exposure is None else amount_of(exposure, unit)
