"""The rules of a gate, read from the `gate:` mapping of a workload.yaml."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NonInferior:
    """At most `margin` more failures per scenario than the champion."""

    suite: str
    metric: str
    margin: float
    rule: str = "non_inferior"


@dataclass(frozen=True, slots=True)
class Improves:
    """Fewer failures than the champion."""

    suite: str
    metric: str
    rule: str = "improves"


@dataclass(frozen=True, slots=True)
class MeanRatioAtMost:
    """The mean of `metric` is at most `bound` times the champion's, over scenarios that both passed.

    `among` names a 0/1 metric that must be 1 on both sides (such as having reached the goal); without it, the
    gate's own metric, `failure`, must be 0 on both sides.
    """

    suite: str
    metric: str
    bound: float
    among: str | None
    failure: str
    rule: str = "mean_ratio_at_most"


@dataclass(frozen=True, slots=True)
class ZeroTolerance:
    """None of these scenarios (all of the suite when empty) may fail that the champion passes."""

    suite: str
    metric: str
    scenarios: tuple[str, ...]
    rule: str = "zero_tolerance"


@dataclass(frozen=True, slots=True)
class AbsoluteAtMost:
    """The mean of `metric` is at most `bound`, champion or not."""

    suite: str
    metric: str
    bound: float
    rule: str = "absolute_at_most"


Part = NonInferior | Improves | MeanRatioAtMost | ZeroTolerance | AbsoluteAtMost


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """`first` replaces `parts` for the first model ever, which has no champion to be compared with."""

    alpha: float
    metric: str
    parts: tuple[Part, ...]
    first: tuple[AbsoluteAtMost, ...] = ()
    max_unusable: float = 0.01


def parse_policy(gate: Mapping[str, object]) -> GatePolicy:
    """Read a policy; whatever is not understood is a ValueError, because a rule skipped is a gate left open."""
    _known(gate, {"alpha", "metric", "parts", "first", "max_unusable"}, "gate")
    metric = _text(gate, "metric", "gate", default="incident")
    parts = tuple(
        _part(item, metric, f"gate.parts[{i}]") for i, item in enumerate(_items(gate, "parts", required=True))
    )
    first = tuple(_part(item, metric, f"gate.first[{i}]") for i, item in enumerate(_items(gate, "first")))
    absolute = tuple(part for part in first if isinstance(part, AbsoluteAtMost))
    if len(absolute) != len(first):
        raise ValueError("gate.first may only hold absolute_at_most: the first model has no champion to compare with")
    alpha = _number(gate, "alpha", "gate", default=0.05)
    unusable = _number(gate, "max_unusable", "gate", default=0.01)
    if not 0 < alpha <= 0.2:
        raise ValueError(f"gate.alpha is {alpha}, it must be above 0 and at most 0.2")
    if not 0 <= unusable <= 0.1:
        raise ValueError(f"gate.max_unusable is {unusable}, it must lie between 0 and 0.1")
    return GatePolicy(alpha, metric, parts, absolute, unusable)


def _part(item: object, metric: str, where: str) -> Part:
    if not isinstance(item, Mapping):
        raise ValueError(f"{where} is not a mapping")  # noqa: TRY004 - one kind of error for a bad policy
    rule = _text(item, "rule", where)
    if rule not in READERS:
        raise ValueError(f"{where}: no rule is called {rule!r}; there are {', '.join(sorted(READERS))}")
    return READERS[rule](item, metric, where)


def _non_inferior(item: Mapping[str, object], metric: str, where: str) -> Part:
    _known(item, {"suite", "rule", "metric", "margin"}, where)
    margin = _number(item, "margin", where)
    if not 0 < margin < 1:
        raise ValueError(f"{where}.margin is {margin}, it must lie between 0 and 1")
    return NonInferior(_text(item, "suite", where), _text(item, "metric", where, default=metric), margin)


def _improves(item: Mapping[str, object], metric: str, where: str) -> Part:
    _known(item, {"suite", "rule", "metric"}, where)
    return Improves(_text(item, "suite", where), _text(item, "metric", where, default=metric))


def _mean_ratio(item: Mapping[str, object], metric: str, where: str) -> Part:
    _known(item, {"suite", "rule", "metric", "bound", "among"}, where)
    bound = _number(item, "bound", where)
    if bound <= 0:
        raise ValueError(f"{where}.bound is {bound}, it must be positive")
    among = _text(item, "among", where) if "among" in item else None
    return MeanRatioAtMost(_text(item, "suite", where), _text(item, "metric", where), bound, among, metric)


def _zero_tolerance(item: Mapping[str, object], metric: str, where: str) -> Part:
    _known(item, {"suite", "rule", "metric", "scenarios"}, where)
    names = _items(item, "scenarios")
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{where}.scenarios must be a list of scenario ids")
    scenarios = tuple(str(name) for name in names)
    return ZeroTolerance(_text(item, "suite", where), _text(item, "metric", where, default=metric), scenarios)


def _absolute(item: Mapping[str, object], metric: str, where: str) -> Part:
    _known(item, {"suite", "rule", "metric", "bound"}, where)
    bound = _number(item, "bound", where)
    return AbsoluteAtMost(_text(item, "suite", where), _text(item, "metric", where, default=metric), bound)


READERS: Mapping[str, Callable[[Mapping[str, object], str, str], Part]] = {
    "non_inferior": _non_inferior,
    "improves": _improves,
    "mean_ratio_at_most": _mean_ratio,
    "zero_tolerance": _zero_tolerance,
    "absolute_at_most": _absolute,
}


def _known(mapping: Mapping[str, object], keys: set[str], where: str) -> None:
    unknown = sorted(str(key) for key in mapping if key not in keys)
    if unknown:
        raise ValueError(f"{where} has unknown keys {', '.join(unknown)}; it may have {', '.join(sorted(keys))}")


def _text(mapping: Mapping[str, object], key: str, where: str, default: str | None = None) -> str:
    value = mapping.get(key, default)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where}.{key} must be a text, not {value!r}")
    return value


def _number(mapping: Mapping[str, object], key: str, where: str, default: float | None = None) -> float:
    value = mapping.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where}.{key} must be a number, not {value!r}")
    return float(value)


def _items(mapping: Mapping[str, object], key: str, *, required: bool = False) -> Sequence[object]:
    value = mapping.get(key, [])
    if not isinstance(value, list | tuple) or (required and not value):
        raise ValueError(f"gate: {key} must be a list{' with at least one rule' if required else ''}, not {value!r}")
    return value
