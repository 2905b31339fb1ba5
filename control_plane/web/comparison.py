"""Two versions side by side, as rows of one table: what is the same, what differs, and which way is better."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from control_plane.evaluation.schemas import MetricPairItem, SuiteComparison
from control_plane.registry.schemas import VersionItem
from control_plane.telemetry.schemas import Rate, RateLine
from control_plane.web.figures import rate_words
from control_plane.web.names import Names
from control_plane.web.render import NONE, amount, counted, size, whole, with_unit


@dataclass(frozen=True, slots=True)
class Row:
    """`change` is the second over the first, where both are numbers; `differs` marks what is worth a look."""

    name: str
    first: str
    second: str
    differs: bool
    change: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """`told` says what the figures are over."""

    title: str
    rows: Sequence[Row]
    told: str = ""


def identity(names: Names, a: VersionItem, b: VersionItem) -> list[Row]:
    """What they are: where they come from and how large they are."""
    asked: list[tuple[str, Callable[[VersionItem], object]]] = [
        ("label", lambda v: v.label or NONE),
        ("made by", lambda v: v.created_by),
        ("parent", lambda v: names.label(v.parent) if v.parent else NONE),
        ("dataset version", lambda v: (v.dataset or NONE)[:12]),
        ("training", lambda v: (v.training or NONE)[:18]),
    ]
    rows = [_row(name, str(read(a)), str(read(b))) for name, read in asked]
    rows.append(numbers("size of the bundle", _bytes(a), _bytes(b), size))
    cards = sorted(set(a.card) | set(b.card))
    return rows + [_card(name, a.card.get(name), b.card.get(name)) for name in cards]


def _bytes(version: VersionItem) -> float:
    return float(sum(file["size_bytes"] for file in version.content["files"]))


def _card(name: str, a: object, b: object) -> Row:
    words = name.replace("_", " ")
    if _number(a) is not None and _number(b) is not None:
        return numbers(words, _number(a), _number(b), lambda value: amount(value, 4))
    return _row(words, NONE if a is None else str(a)[:60], NONE if b is None else str(b)[:60])


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _row(name: str, first: str, second: str) -> Row:
    return Row(name, first, second, first != second)


def numbers(
    name: str, a: float | None, b: float | None, words: Callable[[float], str], *, compares: bool = True
) -> Row:
    """Set two numbers side by side; where that `compares` them, with the second in terms of the first."""
    first, second = (NONE if value is None else words(value) for value in (a, b))
    if a is None and b is None:
        return Row(name, first, second, differs=False, change="not known")
    change = ""
    if compares and a is not None and b is not None and a != b and a > 0:
        percent = (b / a - 1) * 100
        change = f"{percent:+.0f} %" if abs(percent) >= 1 else "less than 1 %"
    return Row(name, first, second, first != second, change)


def simulated(found: SuiteComparison) -> Table:
    """Means of both over the scenarios of one suite that both were driven in."""
    driven = f"driven in {whole(found.first_scenarios)} and {whole(found.second_scenarios)}"
    told = f"Over the {counted(found.common_scenarios, 'scenario')} that both have a result of ({driven})."
    if any(metric.yes_or_no for metric in found.metrics):
        told += " Shares in %; +: scenarios in which it happens with the second only, -: with the first only."
    return Table(f"In simulation: {found.suite_name}", [_metric(metric) for metric in found.metrics], told)


def _metric(metric: MetricPairItem) -> Row:
    name = with_unit(metric.metric)
    if not metric.yes_or_no:
        return numbers(name, metric.first, metric.second, amount)
    first, second = (f"{amount(100 * value)} %" for value in (metric.first, metric.second))
    flips = " ".join(f"{sign}{n}" for sign, n in (("+", metric.higher), ("-", metric.lower)) if n)
    return Row(name, first, second, bool(flips), flips)


def in_the_field(rates: Sequence[Rate], sums: Mapping[str, Sequence[RateLine]]) -> list[Row]:
    """Incidents, exposure and energy of both, from what devices reported."""
    a, b = (_driven(sums.get(rate.content_digest, ())) for rate in rates)
    return [
        replace(_row("incident rate (95 %)", *(rate_words(rate) for rate in rates)), change=_times(*rates)),
        _row("devices", *(whole(rate.devices) for rate in rates)),
        numbers("kilometres", a["km"], b["km"], amount, compares=False),
        numbers("hours", a["hours"], b["hours"], amount, compares=False),
        numbers("energy per km, J", a["joules_per_km"], b["joules_per_km"], amount),
        numbers("energy per decision, mJ", a["mj_per_decision"], b["mj_per_decision"], amount),
    ]


def _times(first: Rate, second: Rate) -> str:
    if not first.rate or second.rate is None:
        return ""
    return f"{amount(second.rate / first.rate)} times"


def _driven(lines: Sequence[RateLine]) -> dict[str, Any]:
    km, joules = sum(line.distance_m for line in lines) / 1000, [line.energy_j for line in lines if line.energy_j]
    decisions, spent = sum(line.decisions for line in lines), sum(joules)
    return {
        "km": km,
        "hours": sum(line.duration_s for line in lines) / 3600,
        "joules_per_km": spent / km if km and joules else None,
        "mj_per_decision": 1000 * spent / decisions if decisions and joules else None,
    }
