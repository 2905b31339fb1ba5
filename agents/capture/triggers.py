"""Which recordings are kept and in which order they go. Pure: rules, what waits and what went in; verdicts out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

_HOUR_S: Final = 3600.0


@dataclass(frozen=True)
class CaptureRule:
    """About one kind of trigger: higher priority goes first and is dropped last."""

    priority: int = 50
    max_per_hour: int = 600
    keep: bool = True


@dataclass(frozen=True)
class CaptureRules:
    """A campaign: what is worth recording. Kinds that no rule names fall under `otherwise`."""

    kinds: Mapping[str, CaptureRule] = field(default_factory=dict)
    otherwise: CaptureRule = CaptureRule()

    def of(self, kind: str) -> CaptureRule:
        return self.kinds.get(kind, self.otherwise)


@dataclass(frozen=True)
class Bounds:
    """Ages are of time in which the device ran; recordings of events may become older than others."""

    files: int = 1000
    bytes: int = 512 << 20
    age_s: float = 30 * 86400
    event_age_s: float = 180 * 86400


@dataclass(frozen=True)
class Waiting:
    """A recording in the outbox; `order` grows with time. `of_event`: it shows what led to a field event."""

    sha256: str
    kind: str
    size_bytes: int
    order: float
    of_event: bool = False
    age_s: float = 0.0


@dataclass(frozen=True)
class Choice:
    """`send` in the order they should go; `drop` with the reason of each."""

    send: tuple[Waiting, ...]
    drop: Mapping[str, str]


def choose(
    waiting: Iterable[Waiting], sent_ages_s: Mapping[str, Iterable[float]], rules: CaptureRules, bounds: Bounds
) -> Choice:
    """Return what to send and what to give up.

    `sent_ages_s` tells for each kind how long ago its recordings were kept: a rate limit spends itself on the first of
    an hour, so that a robot that is stuck against a wall cannot fill the link with one wall.
    """
    left = {kind: rules.of(kind).max_per_hour - _recent(ages) for kind, ages in sent_ages_s.items()}
    drop: dict[str, str] = {}
    kept: list[Waiting] = []
    for each in sorted(waiting, key=lambda one: (one.order, one.sha256)):
        rule = rules.of(each.kind)
        budget = left.get(each.kind, rule.max_per_hour)
        if not rule.keep:
            drop[each.sha256] = "not_wanted_by_rules"
        elif each.age_s > (bounds.event_age_s if each.of_event else bounds.age_s):
            drop[each.sha256] = "too_old"
        elif budget <= 0:
            drop[each.sha256] = "rate_limited"
        else:
            kept.append(each)
        left[each.kind] = budget - 1
    # What led to an event goes before everything else and is given up last.
    kept.sort(key=lambda one: (not one.of_event, -rules.of(one.kind).priority))
    fitting = _fit(kept, bounds)
    drop.update({each.sha256: "outbox_full" for each in kept[len(fitting) :]})
    return Choice(tuple(fitting), drop)


def _recent(ages_s: Iterable[float]) -> int:
    return sum(1 for age in ages_s if age < _HOUR_S)


def _fit(kept: list[Waiting], bounds: Bounds) -> list[Waiting]:
    """Return the longest head that fits: whatever has the least priority, and is newest in it, goes first."""
    size = 0
    fitting: list[Waiting] = []
    for each in kept:
        size += each.size_bytes
        if size > bounds.bytes or len(fitting) >= bounds.files:
            break
        fitting.append(each)
    return fitting
