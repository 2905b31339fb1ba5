"""What of a batch is new, what to do with a recording, and rates with their intervals.

A device sends its windows and events in growing order of one `seq` per stream; the server keeps the highest it has
made durable. So a batch that comes again adds nothing, and nothing acknowledged is lost.
"""

import operator
from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol, TypeVar

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)

CLOCK_AHEAD = timedelta(minutes=5)
CHECK_IN_WAIT = timedelta(minutes=2)


class Sequenced(Protocol):
    @property
    def seq(self) -> int: ...


Item = TypeVar("Item", bound=Sequenced)


class RecordingState(StrEnum):
    ANNOUNCED = "announced"
    STORED = "stored"
    DECLINED = "declined"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Quota:
    """What one device may send."""

    max_bytes: int
    per_hour: int


def fresh(items: Sequence[Item], acknowledged_seq: int) -> Sequence[Item]:
    """Return the end of a growing sequence that lies above a mark."""
    if not items or items[0].seq > acknowledged_seq:
        return items
    return items[bisect_right(items, acknowledged_seq, key=lambda item: item.seq) :]


class Claim(Sequenced, Protocol):
    """What a window says of itself that only a check-in can confirm."""

    @property
    def content_digest(self) -> str: ...
    @property
    def ended_at(self) -> datetime: ...


def first_to_wait(windows: Iterable[Claim], unattested: Collection[str], received_at: datetime) -> int | None:
    """Return the number of the first window that must come again, or None.

    A robot's telemetry may be quicker than the check-in that says what it runs since; so what is young is not taken
    yet. Later, or when its clock is nowhere near ours, it is taken as it is.
    """
    youngest, oldest = received_at + CLOCK_AHEAD, received_at - CHECK_IN_WAIT
    for window in windows:
        if window.content_digest in unattested and oldest < window.ended_at <= youngest:
            return window.seq
    return None


def out_of_order(items: Sequence[Sequenced]) -> bool:
    """Say whether a batch's own numbers do not strictly grow: then it cannot be acknowledged by its highest."""
    numbers = [item.seq for item in items]
    return any(map(operator.ge, numbers, numbers[1:]))


def out_of_time(instants: Collection[datetime]) -> bool:
    """Say whether an instant lies where no calendar reaches in every zone, so that it cannot be stored."""
    return bool(instants) and not EARLIEST < min(instants) <= max(instants) < LATEST


def why_decline(quota: Quota, size_bytes: int, last_hour: int, *, known_model: bool) -> str | None:
    """Return why a recording is not wanted, or None."""
    if size_bytes > quota.max_bytes:
        return f"it has {size_bytes} bytes, at most {quota.max_bytes} are taken"
    if last_hour >= quota.per_hour:
        return f"this device sent {last_hour} recordings within the hour, its share is {quota.per_hour}"
    if not known_model:
        return "its model is not one of ours"
    return None


def incidents(counts: Mapping[str, int], kinds: Sequence[str]) -> int:
    return sum(counts.get(kind, 0) for kind in kinds)
