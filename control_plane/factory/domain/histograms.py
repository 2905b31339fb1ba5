"""Histograms as Prometheus counts them, how many were at most so much: adding them up, and reading quantiles."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Buckets = Mapping[float, float]


@dataclass(frozen=True, slots=True)
class Histogram:
    """`at_most`: counts by upper bound (in the measure's unit), cumulative, the last bound infinite; `sum` of all."""

    at_most: Buckets = field(default_factory=dict)
    sum: float = 0.0

    @property
    def count(self) -> float:
        return self.at_most.get(math.inf, 0.0)

    def scaled(self, share: float) -> "Histogram":
        return Histogram({bound: count * share for bound, count in self.at_most.items()}, self.sum * share)


@dataclass(frozen=True, slots=True)
class Quantile:
    """`is_bound`: it lies above the highest finite bound, which is what `value` then is."""

    value: float
    is_bound: bool = False


def merged(parts: Iterable[Histogram]) -> Histogram:
    """Add histograms up over the bounds that all of them have.

    Bounds may differ between versions and servers. At a bound that all have, counts add up exactly; at others nobody
    knows. What was empty says nothing about bounds.
    """
    held = [part for part in parts if part.count > 0]
    if not held:
        return Histogram()
    bounds = set(held[0].at_most).intersection(*(part.at_most for part in held[1:]))
    counts = {bound: math.fsum(part.at_most[bound] for part in held) for bound in sorted(bounds)}
    return Histogram(counts, math.fsum(part.sum for part in held))


def quantile(held: Histogram, share: float) -> Quantile | None:
    """Return the value that a share of all is at most, by a straight line within its bucket; None if that is unknown.

    For 10 values at most 0.1 and 20 at most 0.2 the half is 0.1, three quarters are 0.15.
    """
    bounds = sorted(held.at_most)
    if held.count <= 0 or not bounds or not math.isinf(bounds[-1]):
        return None
    rank, below, lower = share * held.count, 0.0, 0.0
    for bound in bounds:
        upto = max(held.at_most[bound], below)  # a scrape between two increments shows a dent
        if upto >= rank and upto > below:
            if math.isinf(bound):
                return Quantile(lower, is_bound=True) if len(bounds) > 1 else None
            start = lower if below > 0 or lower > 0 or bound > 0 else bound
            return Quantile(start + (bound - start) * (rank - below) / (upto - below))
        below, lower = upto, bound
    return None
