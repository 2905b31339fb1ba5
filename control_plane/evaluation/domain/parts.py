"""What a gate's policy is made of: one value per rule, and which of them need a champion or a suite."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

ALL_SUITES: Final = "all"
"""What a part that looks at no single suite names as its suite."""


@dataclass(frozen=True, slots=True)
class NonInferior:
    """At most `margin` more failures per scenario than the champion. `once`: only when the whole suite is there."""

    suite: str
    metric: str
    margin: float
    once: bool = False
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
    gate's own metric, `failure`, must be 0 on both sides. `limits`: between which values the metric lies, always.
    """

    suite: str
    metric: str
    bound: float
    among: str | None
    failure: str
    limits: tuple[float, float] | None = None
    rule: str = "mean_ratio_at_most"


@dataclass(frozen=True, slots=True)
class ZeroTolerance:
    """None of these situations (all of the suite when empty) may fail that the champion passes."""

    suite: str
    metric: str
    scenarios: tuple[str, ...]
    rule: str = "zero_tolerance"


@dataclass(frozen=True, slots=True)
class AbsoluteAtMost:
    """The mean of `metric` is at most `bound`, champion or not. `limits`: between which values it lies, always."""

    suite: str
    metric: str
    bound: float
    limits: tuple[float, float] | None = None
    rule: str = "absolute_at_most"


@dataclass(frozen=True, slots=True)
class CoverageAtLeast:
    """At least so many usable scenarios with each combination of tags, written `tag+tag`."""

    suite: str
    floors: tuple[tuple[str, int], ...]
    rule: str = "coverage_at_least"


@dataclass(frozen=True, slots=True)
class Budget:
    """What one device class can afford: a quantile of `metric`, or its sum per unit of `per`, is at most `at_most`."""

    suite: str
    metric: str
    at_most: float
    quantile: float | None
    per: str | None
    device_class: str | None
    rule: str = "budget"


@dataclass(frozen=True, slots=True)
class ReviewsClosed:
    """Every question about this candidate's flips was answered, and none with no."""

    suite: str = ALL_SUITES
    rule: str = "reviews_closed"


@dataclass(frozen=True, slots=True)
class NoOverlap:
    """No scenario is, or nearly is, something that the candidate was trained on."""

    suite: str = ALL_SUITES
    rule: str = "no_overlap"


@dataclass(frozen=True, slots=True)
class Predictive:
    """Earlier predictions of this simulator held in the field."""

    suite: str = ALL_SUITES
    rule: str = "predictive"


Part = (
    NonInferior
    | Improves
    | MeanRatioAtMost
    | ZeroTolerance
    | AbsoluteAtMost
    | CoverageAtLeast
    | Budget
    | ReviewsClosed
    | NoOverlap
    | Predictive
)
ALONE: Final = (AbsoluteAtMost, CoverageAtLeast, Budget, NoOverlap, Predictive)
"""Rules that need no champion."""
GATE_WIDE: Final = (ReviewsClosed, NoOverlap, Predictive)
"""Rules that look at no single suite."""


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """`first` replaces `parts` for the first model ever, which has no champion to be compared with.

    `domain` declares where devices are meant to work: values by dimension, as in tags `dimension:value`.
    `grave` names 0/1 metrics of which each new failure is a question for two people.
    """

    alpha: float
    metric: str
    parts: tuple[Part, ...]
    first: tuple[Part, ...] = ()
    max_unusable: float = 0.01
    domain: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    holdout_budget: int = 3
    grave: tuple[str, ...] = ()
