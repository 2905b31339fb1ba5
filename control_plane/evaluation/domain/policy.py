"""Reads the rules of a gate from the `gate:` mapping of a workload.yaml."""

from collections.abc import Callable, Mapping

from control_plane.evaluation.domain.parts import (
    ALONE,
    AbsoluteAtMost,
    Budget,
    CoverageAtLeast,
    GatePolicy,
    Improves,
    MeanRatioAtMost,
    NonInferior,
    NoOverlap,
    Part,
    Predictive,
    ReviewsClosed,
    ZeroTolerance,
)
from control_plane.evaluation.domain.reading import flag, items, known, limits, mapping, names, number, text, whole

KEYS = {"alpha", "metric", "parts", "first", "max_unusable", "domain", "composites", "holdout_budget", "grave"}
COMPOSITE_WORDS = ("score", "composite")


def parse_policy(gate: Mapping[str, object]) -> GatePolicy:
    """Read a policy; whatever is not understood is a ValueError, because a rule skipped is a gate left open."""
    known(gate, KEYS, "gate")
    metric = text(gate, "metric", "gate", default="incident")
    parts = _parts(gate, "parts", metric, required=True)
    first = _parts(gate, "first", metric)
    if not all(isinstance(part, ALONE) for part in first):
        raise ValueError(
            "gate.first may only hold absolute_at_most and other rules that need no champion: the first model has none"
        )
    alpha = number(gate, "alpha", "gate", default=0.05)
    unusable = number(gate, "max_unusable", "gate", default=0.01)
    if not 0 < alpha <= 0.2:
        raise ValueError(f"gate.alpha is {alpha}, it must be above 0 and at most 0.2")
    if not 0 <= unusable <= 0.1:
        raise ValueError(f"gate.max_unusable is {unusable}, it must lie between 0 and 0.1")
    _refuse_composites(metric, (*parts, *first), names(gate, "composites", "gate"))
    return GatePolicy(
        alpha,
        metric,
        parts,
        first,
        unusable,
        _domain(gate),
        whole(gate, "holdout_budget", "gate", default=3),
        names(gate, "grave", "gate"),
    )


def _parts(gate: Mapping[str, object], key: str, metric: str, *, required: bool = False) -> tuple[Part, ...]:
    found = items(gate, key, required=required)
    return tuple(_part(item, metric, f"gate.{key}[{place}]") for place, item in enumerate(found))


def _domain(gate: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    declared = mapping(gate, "domain", "gate")
    return {str(dimension): names(declared, str(dimension), "gate.domain") for dimension in declared}


def _refuse_composites(metric: str, parts: tuple[Part, ...], composites: tuple[str, ...]) -> None:
    """A sum of good and bad hides the bad: a gate decides on what it was added up from."""
    for name in (metric, *(getattr(part, "metric", metric) for part in parts)):
        if name in composites or any(word in name.lower() for word in COMPOSITE_WORDS):
            raise ValueError(
                f"the gate decides on the components of a metric, never on a composite: {name!r} adds up several; "
                "name what it is made of, each with its own margin"
            )


def _part(item: object, metric: str, where: str) -> Part:
    if not isinstance(item, Mapping):
        raise ValueError(f"{where} is not a mapping")  # noqa: TRY004 - one kind of error for a bad policy
    rule = text(item, "rule", where)
    if rule not in READERS:
        raise ValueError(f"{where}: no rule is called {rule!r}; there are {', '.join(sorted(READERS))}")
    return READERS[rule](item, metric, where)


def _non_inferior(item: Mapping[str, object], metric: str, where: str) -> Part:
    known(item, {"suite", "rule", "metric", "margin", "once"}, where)
    margin = number(item, "margin", where)
    if not 0 < margin < 1:
        raise ValueError(f"{where}.margin is {margin}, it must lie between 0 and 1")
    once = flag(item, "once", where)
    return NonInferior(text(item, "suite", where), text(item, "metric", where, default=metric), margin, once)


def _improves(item: Mapping[str, object], metric: str, where: str) -> Part:
    known(item, {"suite", "rule", "metric"}, where)
    return Improves(text(item, "suite", where), text(item, "metric", where, default=metric))


def _mean_ratio(item: Mapping[str, object], metric: str, where: str) -> Part:
    known(item, {"suite", "rule", "metric", "bound", "among", "limits"}, where)
    bound = number(item, "bound", where)
    if bound <= 0:
        raise ValueError(f"{where}.bound is {bound}, it must be positive")
    among = text(item, "among", where) if "among" in item else None
    between = limits(item, where)
    if between is not None and not 0 <= bound * between[0] < between[1]:
        raise ValueError(
            f"{where}.limits are {list(between)}: a ratio needs values from 0 on that the bound can tell apart"
        )
    return MeanRatioAtMost(text(item, "suite", where), text(item, "metric", where), bound, among, metric, between)


def _zero_tolerance(item: Mapping[str, object], metric: str, where: str) -> Part:
    known(item, {"suite", "rule", "metric", "scenarios"}, where)
    if not all(isinstance(name, str) for name in items(item, "scenarios")):
        raise ValueError(f"{where}.scenarios must be a list of scenario ids")
    scenarios = names(item, "scenarios", where)
    return ZeroTolerance(text(item, "suite", where), text(item, "metric", where, default=metric), scenarios)


def _absolute(item: Mapping[str, object], metric: str, where: str) -> Part:
    known(item, {"suite", "rule", "metric", "bound", "limits", "once"}, where)
    bound, name = number(item, "bound", where), text(item, "metric", where, default=metric)
    between = limits(item, where) or ((0.0, 1.0) if name == metric else None)
    if flag(item, "once", where) or (between is not None and not between[0] < bound < between[1]):
        between = None
    return AbsoluteAtMost(text(item, "suite", where), name, bound, between)


def _coverage(item: Mapping[str, object], _metric: str, where: str) -> Part:
    known(item, {"suite", "rule", "floors"}, where)
    floors = mapping(item, "floors", where)
    if not floors:
        raise ValueError(f"{where}.floors must give a number of scenarios for at least one tag or combination tag+tag")
    counts = tuple((str(tags), whole(floors, str(tags), f"{where}.floors", least=1)) for tags in floors)
    return CoverageAtLeast(text(item, "suite", where), counts)


def _budget(item: Mapping[str, object], _metric: str, where: str) -> Part:
    known(item, {"suite", "rule", "metric", "at_most", "quantile", "per", "device_class"}, where)
    quantile = number(item, "quantile", where) if "quantile" in item else None
    per = text(item, "per", where) if "per" in item else None
    if (quantile is None) == (per is None):
        raise ValueError(f"{where} needs either quantile (such as 0.99) or per (a metric such as distance_m)")
    if quantile is not None and not 0 < quantile < 1:
        raise ValueError(f"{where}.quantile is {quantile}, it must lie between 0 and 1")
    device_class = text(item, "device_class", where) if "device_class" in item else None
    limit = number(item, "at_most", where)
    return Budget(text(item, "suite", where), text(item, "metric", where), limit, quantile, per, device_class)


def _gate_wide(kind: Callable[[], Part]) -> "Reader":
    def read(item: Mapping[str, object], _metric: str, where: str) -> Part:
        known(item, {"rule"}, where)
        return kind()

    return read


Reader = Callable[[Mapping[str, object], str, str], Part]
READERS: Mapping[str, Reader] = {
    "non_inferior": _non_inferior,
    "improves": _improves,
    "mean_ratio_at_most": _mean_ratio,
    "zero_tolerance": _zero_tolerance,
    "absolute_at_most": _absolute,
    "coverage_at_least": _coverage,
    "budget": _budget,
    "reviews_closed": _gate_wide(ReviewsClosed),
    "no_overlap": _gate_wide(NoOverlap),
    "predictive": _gate_wide(Predictive),
}
