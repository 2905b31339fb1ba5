"""What happened between two scrapes, and in which minutes.

Counters are read as Prometheus' `increase` reads them; gauges are taken times time.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from control_plane.factory.domain.exporters import Measure
from control_plane.factory.domain.histograms import Histogram, merged
from control_plane.factory.domain.reading import STALE_S, Reading, Series

MINUTE_S: Final = 60
MOST_W: Final = 3000.0
"""No GPU and no processor takes more: an increase above that is a counter that jumped, not energy."""
SAME_START_S: Final = 5.0
"""By how much the same start may be told differently: boot times are computed from a clock that is being set."""
ASKED_FOR: Final = frozenset({Measure.TOKENS_OUT, Measure.TOKENS_IN, Measure.REQUESTS, Measure.QUEUE_S})
"""Counters that a server first shows when there is something to count. Others were counting before we saw them."""
OVER_TIME: Final = frozenset({Measure.POWER_W, Measure.BUSY})
"""Gauges that mean something times time."""
BY_CLOCK: Final = frozenset({Measure.CPU_S, Measure.CPU_IDLE_S})
"""Counters that some kernels turn back a little (iowait); a machine's new start shows elsewhere."""


@dataclass(slots=True)
class Amount:
    """What one source did in some time; None where it was not told. `busy_s` of `capacity_s` it was busy."""

    covered_s: float = 0.0
    energy_j: float | None = None
    busy_s: float | None = None
    capacity_s: float | None = None
    tokens_out: float | None = None
    tokens_in: float | None = None
    requests: float | None = None
    queue_s: float | None = None

    def scaled(self, share: float) -> "Amount":
        made = Amount()
        for name in self.__slots__:
            value = getattr(self, name)
            setattr(made, name, None if value is None else value * share)
        return made


@dataclass(frozen=True, slots=True)
class Increment:
    """What happened from `began_s` to `ended_s` (since 1970)."""

    began_s: float
    ended_s: float
    amounts: Mapping[str, Amount] = field(default_factory=dict)
    histograms: Mapping[Measure, Histogram] = field(default_factory=dict)
    restarted: bool = False

    def minutes(self) -> Iterator[tuple[int, float]]:
        """Give each minute's beginning and which share of the time lies in it."""
        whole = self.ended_s - self.began_s
        minute = int(self.began_s // MINUTE_S) * MINUTE_S
        while minute < self.ended_s:
            inside = min(self.ended_s, minute + MINUTE_S) - max(self.began_s, minute)
            if inside > 0:
                yield minute, inside / whole
            minute += MINUTE_S


def increase(before: Reading | None, now: Reading) -> Increment | None:
    """Return what happened between two scrapes; None if there is no first, or it is too long ago to tell."""
    if before is None or not 0 < now.at_s - before.at_s <= STALE_S:
        return None
    seconds, same = now.at_s - before.at_s, _same_start(before, now)
    sums = defaultdict[tuple[str, Measure], float](float)
    for series, value in now.counters.items():
        grown = _grown(series.measure, before.counters.get(series), value, same)
        if grown is not None:
            sums[series.source, series.measure] += grown
    means = {
        (source, measure): (value + before.gauges[measure, source]) / 2
        for (measure, source), value in now.gauges.items()
        if measure in OVER_TIME and (measure, source) in before.gauges
    }
    sources = {source for source, _ in (*sums, *means)}
    amounts = {source: _amount(source, sums, means, seconds) for source in sorted(sources)}
    return Increment(before.at_s, now.at_s, amounts, _histograms(before, now, same), restarted=same is False)


def _same_start(before: Reading, now: Reading) -> bool | None:
    """Say whether the same process (machine) spoke twice; None if it does not tell."""
    if before.started_at_s is None or now.started_at_s is None:
        return None
    return abs(before.started_at_s - now.started_at_s) <= SAME_START_S


def _grown(measure: Measure, before: float | None, value: float, same: bool | None) -> float | None:
    if before is None:
        return value if measure in ASKED_FOR else None
    if value >= before:
        return value - before
    if measure in BY_CLOCK:
        return value if same is False else 0.0
    return 0.0 if same is True and measure in ASKED_FOR else value  # it began anew, from nothing


def _amount(
    source: str, sums: Mapping[tuple[str, Measure], float], means: Mapping[tuple[str, Measure], float], seconds: float
) -> Amount:
    busy, total = means.get((source, Measure.BUSY)), sums.get((source, Measure.CPU_S))
    idle = sums.get((source, Measure.CPU_IDLE_S))
    made = Amount(
        covered_s=seconds,
        energy_j=_energy_j(sums.get((source, Measure.ENERGY_J)), means.get((source, Measure.POWER_W)), seconds),
        tokens_out=sums.get((source, Measure.TOKENS_OUT)),
        tokens_in=sums.get((source, Measure.TOKENS_IN)),
        requests=sums.get((source, Measure.REQUESTS)),
        queue_s=sums.get((source, Measure.QUEUE_S)),
    )
    if busy is not None:
        made.busy_s, made.capacity_s = busy * seconds, seconds
    elif total and idle is not None:
        made.busy_s, made.capacity_s = max(total - idle, 0.0), total
    return made


def _energy_j(counted: float | None, power_w: float | None, seconds: float) -> float | None:
    """Return the counter's increase if it can be true, else power times time."""
    if counted is not None and counted <= MOST_W * seconds:
        return counted
    return power_w * seconds if power_w is not None and power_w <= MOST_W else None


def _histograms(before: Reading, now: Reading, same: bool | None) -> dict[Measure, Histogram]:
    grown = defaultdict[Measure, list[Histogram]](list)
    for series, held in now.histograms.items():
        grown[series.measure].append(_grown_histogram(before.histograms.get(series), held, same))
    return {measure: merged(parts) for measure, parts in grown.items()}


def _grown_histogram(before: Histogram | None, now: Histogram, same: bool | None) -> Histogram:
    """Return what was added: all of it, where it began anew; with other bounds it did, whatever the counts say."""
    if before is None or before.at_most.keys() != now.at_most.keys():
        return now
    fell = any(count < before.at_most[bound] for bound, count in now.at_most.items())
    if fell and same is not True:
        return now
    counts = {bound: max(count - before.at_most[bound], 0.0) for bound, count in now.at_most.items()}
    return Histogram(counts, max(now.sum - before.sum, 0.0))


def to_plain(reading: Reading) -> dict[str, Any]:
    """Return what of a reading the next one needs, as JSON can hold it."""
    return {
        "at_s": reading.at_s,
        "started_at_s": reading.started_at_s,
        "counters": [[*series, value] for series, value in reading.counters.items()],
        "gauges": [[*key, value] for key, value in reading.gauges.items()],
        "histograms": [
            [*series, [[bound_word(b), n] for b, n in held.at_most.items()], held.sum]
            for series, held in reading.histograms.items()
        ],
    }


def from_plain(plain: Mapping[str, Any]) -> Reading:
    """Read what `to_plain` wrote."""
    return Reading(
        at_s=plain["at_s"],
        started_at_s=plain["started_at_s"],
        counters={Series(Measure(m), source, name): value for m, source, name, value in plain["counters"]},
        gauges={(Measure(m), source): value for m, source, value in plain["gauges"]},
        histograms={
            Series(Measure(m), source, name): Histogram({float(b): n for b, n in held}, total)
            for m, source, name, held, total in plain["histograms"]
        },
    )


def bound_word(bound: float) -> str:
    """Return a bound as a key: JSON has no infinite number."""
    return "inf" if math.isinf(bound) else repr(bound)
