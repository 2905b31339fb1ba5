"""A quick way to read a batch as agents write it; whatever it is not sure of is left to the strict reader.

The strict reader (`kit.device_http.parse`) is what decides. This one takes only bodies about which both agree: no
escape and no gap before a colon, so that every `":` ends a key; and as many keys as were understood, so that none
stands twice and none is unknown.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec

_DIGEST = re.compile(r"[0-9a-f]{64}")
_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_KIND = re.compile(r"[a-z][a-z0-9_]{0,39}")
_BLANKS = (b" ", b"\t", b"\r", b"\n")
_GAP = re.compile(rb'"[ \t\r\n]')
_ITEMS_MOST, _COUNTS_MOST, _DETAILS_MOST, _DEPTH_MOST = 1000, 32, 64, 20
_WINDOW_KEYS, _EVENT_KEYS = 11, 6

_Seq = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
_Amount = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
_Degrees = Annotated[float, msgspec.Meta(ge=-100, le=300)]
_At = Annotated[datetime, msgspec.Meta(tz=True)]


class PlainWindow(msgspec.Struct, frozen=True, gc=False):
    """The last two came later than the first agents, and are left out where nothing measures."""

    seq: _Seq
    content_digest: str
    started_at: _At
    ended_at: _At
    distance_m: _Amount
    duration_s: _Amount
    decisions: _Count
    energy_j: _Amount | None
    counts: dict[str, _Count]
    latency_p50_ms: _Amount
    latency_p99_ms: _Amount
    temperature_max_c: _Degrees | None = None
    throttled_s: _Amount | None = None


class PlainEvent(msgspec.Struct, frozen=True):
    seq: _Seq
    event_id: str
    kind: str
    content_digest: str
    at: _At
    details: dict[str, Any]
    recording_sha256: str | msgspec.UnsetType | None = msgspec.UNSET


class PlainBatch(msgspec.Struct, frozen=True):
    stream_id: str
    windows: list[PlainWindow]
    events: list[PlainEvent] | msgspec.UnsetType = msgspec.UNSET


_DECODER = msgspec.json.Decoder(PlainBatch)


def read_plain(body: bytes) -> tuple[str, Sequence[PlainWindow], Sequence[PlainEvent]] | None:
    """Return stream, windows and events of a body that leaves no doubt, or None."""
    if b"\\" in body or (any(blank in body for blank in _BLANKS) and _GAP.search(body)):
        return None
    try:
        batch = _DECODER.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    events = [] if batch.events is msgspec.UNSET else batch.events
    keys = 2 + (batch.events is not msgspec.UNSET) + _keys_of_windows(batch.windows) + _keys_of_events(events)
    if keys != body.count(b'":') or len(batch.windows) > _ITEMS_MOST or len(events) > _ITEMS_MOST:
        return None
    if not _IDENTIFIER.fullmatch(batch.stream_id) or not _sound(batch.windows, events):
        return None
    return batch.stream_id, batch.windows, events


def _keys_of_windows(windows: Sequence[PlainWindow]) -> int:
    hot = len([None for window in windows if window.temperature_max_c is not None])
    slowed = len([None for window in windows if window.throttled_s is not None])
    kinds = sum([len(window.counts) for window in windows if window.counts])
    return _WINDOW_KEYS * len(windows) + kinds + hot + slowed


def _keys_of_events(events: Sequence[PlainEvent]) -> int:
    named = sum(event.recording_sha256 is not msgspec.UNSET for event in events)
    return _EVENT_KEYS * len(events) + named + sum(_keys_within(event.details) for event in events)


def _keys_within(value: Any, depth: int = 0) -> int:
    """Count the keys of nested objects; too deep counts as never right."""
    if depth > _DEPTH_MOST:
        return -(1 << 30)
    if isinstance(value, dict):
        return len(value) + sum(_keys_within(part, depth + 1) for part in value.values())
    if isinstance(value, list):
        return sum(_keys_within(part, depth + 1) for part in value)
    return 0


def _sound(windows: Sequence[PlainWindow], events: Sequence[PlainEvent]) -> bool:
    """Check texts by their distinct values, which are few."""
    digests = {window.content_digest for window in windows} | {event.content_digest for event in events}
    digests |= {event.recording_sha256 for event in events if isinstance(event.recording_sha256, str)}
    kinds = {event.kind for event in events}.union(*[window.counts for window in windows if window.counts])
    return (
        all(_DIGEST.fullmatch(digest) for digest in digests)
        and all(_KIND.fullmatch(kind) for kind in kinds)
        and all(_IDENTIFIER.fullmatch(event.event_id) for event in events)
        and all(len(window.counts) <= _COUNTS_MOST for window in windows if window.counts)
        and all(len(event.details) <= _DETAILS_MOST for event in events)
    )
