"""What a rollout's decisions weighed, as its page shows it: the evidence over time, what halted it, its figures."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from markupsafe import Markup

from control_plane.rollout.domain import Phase
from control_plane.rollout.schemas import DecisionItem
from control_plane.web.charts import Line, Point
from control_plane.web.charts import evidence as picture_of
from control_plane.web.needs import exposure_words
from control_plane.web.render import NONE, amount

NO_LIMIT = 1e8


class Drawn(NamedTuple):
    """One sequential test: its name in figures, how it is drawn, and what it means to reach its line."""

    name: str
    series: str
    dashed: bool
    meaning: str


TESTS = (
    Drawn("harm", "s3", dashed=False, meaning="the release goes back"),
    Drawn("gravest", "s5", dashed=False, meaning="the release goes back"),
    Drawn("safe", "s2", dashed=True, meaning="the stage may widen"),
)


def halted_because(decisions: Sequence[DecisionItem]) -> str:
    """Return the sentence that halted it: what came after says only how the devices went back."""
    return next((d.because for d in decisions if d.phase is Phase.HALTING), "")


def evidence_picture(decisions: Sequence[DecisionItem]) -> Markup | None:
    """Draw the e-values since the first stage began; None before there are two."""
    begun = _weighed(decisions)
    if len(begun) < 2:
        return None
    zero = begun[0].at
    lines = [Line(t.name, _points(begun, zero, t), _needed(begun, t), t.series, t.meaning) for t in _drawn(begun)]
    marks = [((at - zero).total_seconds(), words) for at, words in marks_of(begun)]
    return picture_of("Evidence of harm and of safety over time", lines, marks)


def evidence_plot(decisions: Sequence[DecisionItem]) -> dict[str, Any]:
    """Return the same as `plots.js` draws it."""
    begun = _weighed(decisions)
    tests = _drawn(begun)
    needed = [(test.name, _needed(begun, test)) for test in tests]
    return {
        "x": [d.at.timestamp() for d in begun],
        "log": True,
        "unit": "e-value",
        "lines": [
            {"name": t.name, "series": t.series, "dashed": t.dashed, "y": [_value(d, f"{t.name}_e") for d in begun]}
            for t in tests
        ],
        "levels": [{"y": value, "words": f"{name}: {value:.3g} decides"} for name, value in needed if value],
        "marks": [{"x": at.timestamp(), "words": words} for at, words in marks_of(begun)],
    }


def marks_of(decisions: Sequence[DecisionItem]) -> list[tuple[datetime, str]]:
    """Return when each stage began, and when the release was halted."""
    began = [d for i, d in enumerate(decisions) if i == 0 or d.stage != decisions[i - 1].stage]
    halted = [d for d in decisions if d.phase is Phase.HALTING][:1]
    return [*((d.at, f"stage {d.stage + 1}") for d in began), *((d.at, "halted") for d in halted)]


def figures_of(figures: Mapping[str, object], unit: str) -> list[tuple[str, str]]:
    """Write figures for people: exposure with its unit, and no limit where there is practically none."""
    return [(name.replace("_", " "), _figure(name, value, unit)) for name, value in sorted(figures.items())]


def _figure(name: str, value: object, unit: str) -> str:
    if not isinstance(value, (int, float)):
        return NONE
    if "exposure" in name or name == "stage_cap":
        return "no limit" if value >= NO_LIMIT else exposure_words(value, unit)
    return amount(value)


def _weighed(decisions: Sequence[DecisionItem]) -> list[DecisionItem]:
    """Keep the decisions of which evidence was weighed, from the first stage on."""
    weighed = [d for d in decisions if any(_value(d, f"{test.name}_e") for test in TESTS)]
    return [d for d in weighed if d.phase not in (Phase.DRAFT, Phase.WAITING_APPROVAL)]


def _drawn(decisions: Sequence[DecisionItem]) -> list[Drawn]:
    return [test for test in TESTS if any(_value(d, f"{test.name}_e") for d in decisions)]


def _points(decisions: Sequence[DecisionItem], zero: datetime, test: Drawn) -> list[Point]:
    found = [(d.at, _value(d, f"{test.name}_e")) for d in decisions]
    return [Point((at - zero).total_seconds(), value) for at, value in found if value is not None]


def _needed(decisions: Sequence[DecisionItem], test: Drawn) -> float | None:
    """Return the value at which it decides, as it was last said."""
    said = (_value(d, f"{test.name}_e_needed") for d in reversed(decisions))
    return next((value for value in said if value is not None), None)


def _value(decision: DecisionItem, name: str) -> float | None:
    """Return a figure that has a place on a logarithmic axis."""
    value = decision.figures.get(name)
    return float(value) if isinstance(value, (int, float)) and value > 0 else None
