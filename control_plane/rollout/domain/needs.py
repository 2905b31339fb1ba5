"""What a plan's stages need, as lines to be read: what shows harm, and what shows that there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PROVES, DRIVES, SEES, DECIDES = "be shown no worse", "drive its least", "see {:g} times", "decide on {:g} times"
NEED_NOTE = (
    "Being shown no worse takes the same whatever effect one asks about, and is usually what a stage waits for. A "
    "release that is worse is halted once the evidence is there: about when its line says, by chance or for a larger "
    "effect much earlier."
)


@dataclass(frozen=True, slots=True)
class NeedLine:
    """`exposure` and `days` are None where no amount is enough; `decides` where the stage itself is spoken of."""

    stage: int
    fraction: float
    canary_devices: int
    control_devices: int
    words: str
    exposure: float | None
    days: float | None
    decides: bool | None


def need_lines(needs: Sequence[Mapping[str, Any]]) -> list[NeedLine]:
    """Return the lines of stages that have somebody to compare with: first the stage itself, then each effect.

    Forecasts that were kept before effects were told apart have one number for both questions.
    """
    found = sorted((need for need in needs if need["control_devices"]), key=lambda need: (need["stage"], need["ratio"]))
    lines: list[NeedLine] = []
    for number, need in enumerate(found):
        if not need.get("to_see"):
            own = need["exposure_needed"], need["days_needed"]
            lines.append(_line(need, DECIDES.format(need["ratio"]), own, decides=need["can_decide"]))
            continue
        if number == 0 or found[number - 1]["stage"] != need["stage"]:
            lines.append(_stage(need, decides=all(n["can_decide"] for n in found if n["stage"] == need["stage"])))
        amount = need["to_see"]
        lines.append(_line(need, SEES.format(need["ratio"]), (amount["exposure"], amount["days"]), decides=None))
    return lines


def _stage(need: Mapping[str, Any], *, decides: bool) -> NeedLine:
    proof = need["to_prove"]
    if proof:
        return _line(need, PROVES, (proof["exposure"], proof["days"]), decides=decides)
    return _line(need, DRIVES, (need["exposure_needed"], need["days_needed"]), decides=decides)


def _line(
    need: Mapping[str, Any], words: str, amount: tuple[float | None, float | None], *, decides: bool | None
) -> NeedLine:
    return NeedLine(
        need["stage"], need["fraction"], need["canary_devices"], need["control_devices"], words, *amount, decides
    )
