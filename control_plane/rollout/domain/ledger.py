"""What canary and control did, slice by slice, as columns: enough for a million devices, because it holds strata.

The sums of a slice say everything, so neither the order of arrival nor a second arrival changes what is read from them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from control_plane.kit.slices import Slices
from control_plane.rollout.domain.values import Increment, Stratum

INCIDENTS, GRAVEST, WATCHED = 0, 1, 2
"""The counts of a slice, by place: those of the plan's `watch` follow from `WATCHED` on."""
EXACT = 2**53
"""Sums of whole numbers below this are exact in floats."""
Numbers = NDArray[np.int64]
Amounts = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ledger(Sequence[Increment]):
    """Rows of `Increment`: exposure has a column per arm (canary, control), events one per arm and count."""

    strata: tuple[Stratum, ...]
    bucket: Numbers
    stratum: Numbers
    exposure: Amounts
    events: Numbers

    @classmethod
    def of(cls, increments: Sequence[Increment]) -> "Ledger":
        """Put increments in columns; a ledger is returned as it is."""
        if isinstance(increments, Ledger):
            return increments
        strata = tuple(sorted({step.stratum for step in increments}))
        place = {stratum: number for number, stratum in enumerate(strata)}
        events = [[_counts(step, canary=True), _counts(step, canary=False)] for step in increments]
        return cls(
            strata,
            np.asarray([step.bucket for step in increments], dtype=np.int64),
            np.asarray([place[step.stratum] for step in increments], dtype=np.int64),
            np.asarray([(s.canary_exposure, s.control_exposure) for s in increments], dtype=np.float64).reshape(-1, 2),
            _rectangle(events),
        )

    def __len__(self) -> int:
        return self.bucket.size

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        (canary, control), (hits, misses) = self.exposure[place].tolist(), self.events[place].tolist()
        return Increment(
            int(self.bucket[place]),
            self.strata[int(self.stratum[place])],
            canary,
            control,
            hits[INCIDENTS],
            misses[INCIDENTS],
            hits[GRAVEST],
            misses[GRAVEST],
            tuple(hits[WATCHED:]),
            tuple(misses[WATCHED:]),
        )

    def __iter__(self) -> Iterator[Increment]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ledger) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash((self.strata, len(self)))

    @cached_property
    def driven(self) -> tuple[float, float]:
        """Canary and control exposure, rounded once, so that the order of rows does not show."""
        canary, control = (_exact(column) for column in self.exposure.T)
        return canary, control

    def total(self, count: int) -> tuple[int, int]:
        """Return events of one count on canary and on control devices."""
        if not len(self) or count >= self.events.shape[2]:
            return 0, 0
        canary, control = self._totals[:, count].tolist()
        return canary, control

    @cached_property
    def _totals(self) -> Numbers:
        totals: Numbers = np.add.reduce(self.events.reshape(len(self), -1), axis=0).reshape(self.events.shape[1:])
        return totals


def _exact(amounts: Amounts) -> float:
    """Add without an error that depends on order: thousandths, which is what cells hold, are whole numbers."""
    thousandths = np.rint(amounts * 1000)
    if np.array_equal(thousandths / 1000, amounts) and float(np.max(thousandths, initial=0)) * amounts.size < EXACT:
        return int(thousandths.sum()) / 1000
    return math.fsum(amounts.tolist())


def _counts(step: Increment, *, canary: bool) -> tuple[int, ...]:
    if canary:
        return (step.canary_events, step.canary_gravest, *step.canary_watched)
    return (step.control_events, step.control_gravest, *step.control_watched)


def _rectangle(events: Sequence[Sequence[Sequence[int]]]) -> Numbers:
    """Fill up rows that know fewer counts."""
    width = max((len(arm) for row in events for arm in row), default=WATCHED)
    full = [[[*arm, *[0] * (width - len(arm))] for arm in row] for row in events]
    return np.asarray(full, dtype=np.int64).reshape(-1, 2, width)


@dataclass(frozen=True, eq=False)
class Joined:
    """A ledger by time and stratum, in which both arms have driven in every slice.

    Slices of a stratum are joined until both arms have. Whether they are depends on exposure alone, never on events, so
    that each one's split of events between the arms stays binomial; and no exposure and no event is dropped, however
    unevenly windows arrive.
    """

    exposure: Amounts
    events: Numbers
    looks: Numbers

    @classmethod
    def of(cls, ledger: Ledger) -> "Joined":
        if not len(ledger):
            return cls(ledger.exposure, ledger.events, ledger.bucket)
        times, look = _ranked(ledger.bucket)
        place, cells = look * len(ledger.strata) + ledger.stratum, times.size * len(ledger.strata)
        exposure = _summed(place, ledger.exposure, cells).reshape(times.size, -1, 2)
        events = _summed(place, ledger.events, cells).reshape(*exposure.shape[:2], 2, -1)
        _join(exposure, events)
        looks, stratum = np.nonzero(_both(exposure))
        place = looks * exposure.shape[1] + stratum
        amounts, counts = exposure.reshape(-1, 2), events.reshape(times.size * exposure.shape[1], 2, -1)
        if place.size < len(amounts):
            amounts, counts = amounts[place], counts[place]
        return cls(amounts, counts, looks.astype(np.int64))

    def slices(self, count: int) -> Slices:
        """Return one count's events with the exposure they belong to."""
        found = self._slices.get(count)
        if found is None:
            found = self._slices[count] = self._made(count)
        return found

    @cached_property
    def _slices(self) -> dict[int, Slices]:
        return {}

    def _made(self, count: int) -> Slices:
        if count >= self.events.shape[2]:
            return Slices.of([])
        hits, misses = (self.events[:, arm, count].astype(np.float64) for arm in (0, 1))
        return Slices(self.exposure[:, 0], self.exposure[:, 1], hits, misses, self.looks)


def _ranked(values: Numbers) -> tuple[Numbers, NDArray[np.intp]]:
    """Return the distinct values in order, and each one's rank; values that never fall need no sorting."""
    steps = np.diff(values)
    if bool(np.any(steps < 0)):
        return np.unique(values, return_inverse=True)
    rank = np.concatenate([[0], np.cumsum(steps > 0)])
    return values[np.flatnonzero(np.diff(rank, prepend=-1))], rank


def _summed(place: Numbers, rows: NDArray[Any], cells: int) -> NDArray[Any]:
    """Add rows up by their place; one output column per input column."""
    columns = rows.reshape(len(rows), -1)
    if bool(np.all(np.diff(place) > 0)):  # each has a place of its own
        alone = np.zeros((cells, columns.shape[1]), dtype=rows.dtype)
        alone[place] = columns
        return alone
    sums = [np.bincount(place, weights=column, minlength=cells) for column in columns.T]
    return np.stack(sums, axis=1).astype(rows.dtype)


def _both(exposure: Amounts) -> NDArray[np.bool_]:
    """Say where both arms have driven."""
    where: NDArray[np.bool_] = (exposure[..., 0] > 0) & (exposure[..., 1] > 0)
    return where


def _join(exposure: Amounts, events: Numbers) -> None:
    """Carry what only one arm did into its stratum's next slice, in place."""
    both = _both(exposure)
    if bool(np.all(both)):
        return
    alone = ~both & (np.any(exposure > 0, axis=2) | np.any(events > 0, axis=(2, 3)))
    if not bool(np.any(alone)):
        return
    for now in range(int(np.argmax(np.any(alone, axis=1))), exposure.shape[0] - 1):
        carried = ~_both(exposure[now])
        exposure[now + 1][carried] += exposure[now][carried]
        events[now + 1][carried] += events[now][carried]
        exposure[now][carried] = 0
        events[now][carried] = 0
