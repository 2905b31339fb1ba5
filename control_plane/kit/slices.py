"""What two arms did, slice of time by slice of time, and how likely that is for each ratio of their event rates."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CACHED = 30_000  # numbers that fit in a processor's cache beside what is made of them
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class TwoArmStep:
    """What both arms did in one slice of time, within one stratum."""

    treated_exposure: float
    control_exposure: float
    treated_events: int
    control_events: int


class _Told(NamedTuple):
    """Slices that compare something: both arms did something and there were events. `begins`: where a look begins."""

    odds: Floats
    hits: Floats
    events: Floats
    looks: NDArray[np.int64]
    begins: Places


@dataclass(frozen=True, eq=False)
class Slices:
    """What both arms did, one entry per slice, as columns; slices with one `look` are told at once.

    `looks` never fall; nothing is read from a look whose slices hold no event.
    """

    treated: Floats
    control: Floats
    hits: Floats
    misses: Floats
    looks: NDArray[np.int64]

    @classmethod
    def of(cls, steps: Sequence[TwoArmStep]) -> "Slices":
        rows = [(s.treated_exposure, s.control_exposure, s.treated_events, s.control_events) for s in steps]
        treated, control, hits, misses = np.asarray(rows, dtype=np.float64).reshape(-1, 4).T
        return cls(treated, control, hits, misses, np.arange(len(steps), dtype=np.int64))

    @property
    def size(self) -> int:
        return self.looks.size

    @property
    def count(self) -> int:
        """How many looks there were."""
        return int(self.looks[-1]) + 1 if self.looks.size else 0

    @property
    def has_events(self) -> bool:
        return bool(np.any(self.hits > 0) or np.any(self.misses > 0))

    def log_likelihoods(self, ratios: Floats) -> Floats:
        """Return one row per ratio, one column per look; slices in which one arm did nothing compare nothing."""
        odds, hits, events, looks, begins = self._told
        total = np.zeros((ratios.size, self.count))
        if not looks.size:
            return total
        at_once = max(1, CACHED // looks.size)  # ratios whose values stay within a processor's cache
        for first in range(0, ratios.size, at_once):
            some = ratios[first : first + at_once, None]
            # The share is what counts; as odds, the logarithms stay exact for any unit.
            value = hits * np.log(some) - events * np.log1p(some * odds)
            total[first : first + at_once, looks[begins]] = np.add.reduceat(value, begins, axis=1)
        return total

    def pooled(self) -> "Slices":
        """Throw slices together whose arms drove in the same proportion, within a percent, as one look.

        The likelihood depends on a slice's proportion and its events alone; each group stands at the mean of its own.
        """
        odds, hits, events, _, _ = self._told
        logs = np.log(odds)
        group = np.rint(logs * 100).astype(np.int64)
        group -= group.min(initial=0)
        sums = np.stack([np.bincount(group, weights=w) for w in (events, events * logs, hits)])
        total, log_odds, treated = sums[:, sums[0] > 0]
        mean = np.exp(log_odds / total)
        return Slices(mean, np.ones_like(mean), treated, total - treated, np.zeros(mean.size, dtype=np.int64))

    @cached_property
    def _told(self) -> _Told:
        events = self.hits + self.misses
        told = np.flatnonzero((self.treated > 0) & (self.control > 0) & (events > 0))
        looks = self.looks[told]
        begins = np.flatnonzero(np.diff(looks, prepend=-1))
        return _Told(self.treated[told] / self.control[told], self.hits[told], events[told], looks, begins)
