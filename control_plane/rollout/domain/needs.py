"""What a plan's stages need, as lines to be read: what shows harm, and what shows that there is none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PROVES, DRIVES, SEES, DECIDES = "show no worse", "drive its least", "see {:g} times", "decide on {:g} times"
NEED_NOTE = (
    "To show an equal release no worse takes the same whatever effect one asks about, and is usually what a stage "
    "waits for. A release that is worse is halted once the evidence is there: about when its line says, by chance or "
    "for a larger effect much earlier."
)


@dataclass(frozen=True, slots=True)
class NeedLine:
    """`exposure` and `days` are None where no amount is enough; `in_time`: within the stage's cap and deadline."""

    stage: int
    fraction: float
    canary_devices: int
    control_devices: int
    words: str
    exposure: float | None
    days: float | None
    in_time: bool


def need_lines(needs: Sequence[Mapping[str, Any]]) -> list[NeedLine]:
    """Return the lines of stages that have somebody to compare with: first the stage itself, then each effect.

    Forecasts that were kept before effects were told apart have one number for both questions.
    """
    found = sorted((need for need in needs if need["control_devices"]), key=lambda need: (need["stage"], need["ratio"]))
    lines: list[NeedLine] = []
    for number, need in enumerate(found):
        amount = need.get("to_see")
        if not amount:
            lines.append(_line(need, DECIDES.format(need["ratio"]), _own(need)))
            continue
        if number == 0 or found[number - 1]["stage"] != need["stage"]:
            proof = need["to_prove"]
            lines.append(_line(need, PROVES, proof) if proof else _line(need, DRIVES, _own(need)))
        lines.append(_line(need, SEES.format(need["ratio"]), amount))
    return lines


def _own(need: Mapping[str, Any]) -> dict[str, Any]:
    return {"exposure": need["exposure_needed"], "days": need["days_needed"], "in_time": need["can_decide"]}


def _line(need: Mapping[str, Any], words: str, amount: Mapping[str, Any]) -> NeedLine:
    where = (need["stage"], need["fraction"], need["canary_devices"], need["control_devices"])
    return NeedLine(*where, words, amount["exposure"], amount["days"], amount["in_time"])
