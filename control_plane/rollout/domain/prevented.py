"""How many incidents a version has prevented since it was promoted, and how sure that is.

In every stratum (site and class) where both drove: (the baseline's rate - the version's) times what the version has
driven there since its promotion; the strata are added up. So a version that is mostly at a quiet site is compared with
its baseline at that site. The two did not drive at the same time: whatever else has changed since counts as the
version's doing, which the concurrent comparison of the rollout itself does not.

Each rate has its own interval, in which devices that differ count as clusters (`kit.statistics.rate_interval`). The
interval of the sum puts the distances of their bounds together by squares (MOVER: Zou and Donner, "Construction of
confidence limits about effect measures", Statistics in Medicine 2008), so no rate need be far from zero.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from control_plane.kit.statistics import Interval, rate_interval

CONFIDENCE = 0.95


@dataclass(slots=True)
class Driven:
    """Incidents and exposure of one version in one stratum, a pair for each device."""

    incidents: list[int] = field(default_factory=list)
    exposures: list[float] = field(default_factory=list)

    def rate(self, confidence: float) -> Interval:
        return rate_interval(self.incidents, self.exposures, confidence)


@dataclass(frozen=True, slots=True)
class Compared:
    """One stratum; `since` is the version's exposure after its promotion."""

    since: float
    baseline: Driven
    version: Driven


@dataclass(frozen=True, slots=True)
class Prevented:
    """`exposure`: what was compared; `left_out`: driven where the baseline never was, about which nothing is said."""

    low: float
    estimate: float | None
    high: float
    exposure: float
    left_out: float

    @property
    def is_certain(self) -> bool:
        """Say whether the number is told apart from none at all."""
        return self.estimate is not None and (self.low > 0 or self.high < 0)


def prevented(strata: Iterable[Compared], confidence: float = CONFIDENCE) -> Prevented:
    terms: list[tuple[float, Interval]] = []
    exposure = left_out = 0.0
    for stratum in strata:
        before, after = stratum.baseline.rate(confidence), stratum.version.rate(confidence)
        if before.estimate is None or after.estimate is None:
            left_out += stratum.since
            continue
        exposure += stratum.since
        terms += [(stratum.since, before), (-stratum.since, after)]
    if exposure <= 0:
        return Prevented(-math.inf, None, math.inf, 0.0, left_out)
    estimate = sum(factor * (rate.estimate or 0.0) for factor, rate in terms)
    below, above = _reach(terms, lower=True), _reach(terms, lower=False)
    return Prevented(estimate - below, estimate, estimate + above, exposure, left_out)


def _reach(terms: Sequence[tuple[float, Interval]], *, lower: bool) -> float:
    """Return the distance to one bound of a sum of rates times factors."""
    squares = 0.0
    for factor, rate in terms:
        bound = rate.low if (factor > 0) is lower else rate.high
        squares += (factor * ((rate.estimate or 0.0) - bound)) ** 2
    return math.sqrt(squares)
