"""Take telemetry in exactly once; take recordings if they are wanted and sound; give sums out."""

import asyncio
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from agents.protocol import v1 as wire
from control_plane.fleet.domain import Identity
from control_plane.kit import clock
from control_plane.kit.db import Row, Session
from control_plane.kit.errors import Invalid, NotFound
from control_plane.kit.objects import CorruptObjectError, ObjectStore
from control_plane.kit.outbox import emit
from control_plane.kit.pages import Page, decode_cursor, page_of
from control_plane.kit.statistics import rate_interval
from control_plane.kit.uploads import settle
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Edge, Kind, Node
from control_plane.telemetry import store
from control_plane.telemetry.domain import (
    Quota,
    RecordingError,
    RecordingState,
    fresh,
    inspect_recording,
    out_of_order,
    out_of_time,
    why_decline,
)
from control_plane.telemetry.models import Recording
from control_plane.telemetry.schemas import FieldEventItem, Rate, RateLine, RecordingItem

QUOTA = Quota(max_bytes=wire.LIMITS["recording_bytes"], per_hour=2000)
UPLOAD_S = 900
NOT_A_RECORDING = "these bytes are here already, as something else than a recording"
"""Declined because what is rejected later is thrown away: a device must not name a model's file and have it deleted."""


async def take_batch(session: Session, who: Identity, batch: wire.TelemetryBatch) -> wire.TelemetryReply:
    """Make a batch durable, once; the answer is sent after the commit."""
    if out_of_order(batch.windows) or out_of_order(batch.events):
        raise Invalid("windows and events must each come in growing order of seq", code="out_of_order")
    _check_times(i for w in batch.windows for i in (w.started_at, w.ended_at))
    _check_times(e.at for e in batch.events)
    acknowledged = await store.lock_stream(session, who.id, batch.stream_id)
    windows, events = fresh(batch.windows, acknowledged), fresh(batch.events, acknowledged)
    sender, at = (who.id, who.site, who.device_class), clock.now()
    if windows:
        await store.copy_windows(session, sender, batch.stream_id, at, windows)
    if events:
        await store.copy_events(session, sender, batch.stream_id, at, events)
        await _link_events(session, who, events)
    highest = max([acknowledged, *(w.seq for w in windows), *(e.seq for e in events)])
    if highest > acknowledged:
        await store.acknowledge(session, who.id, batch.stream_id, highest)
    taken = len(windows) + len(events)
    return wire.TelemetryReply(
        acknowledged_seq=highest,
        accepted=taken,
        next_batch_s=1.0,
        duplicates=len(batch.windows) + len(batch.events) - taken,
    )


def _check_times(instants: Iterable[datetime]) -> None:
    if out_of_time(instants):
        raise Invalid("an instant is out of range", code="malformed")


async def _link_events(session: Session, who: Identity, events: Sequence[wire.FieldEvent]) -> None:
    edges = []
    for event in events:
        node = Node(Kind.FIELD_EVENT, event.event_id)
        edges.append(Edge(Node(Kind.DEVICE, who.id), node, "happened to"))
        edges.append(Edge(Node(Kind.MODEL_VERSION, event.content_digest), node, "happened with"))
    await lineage.link_all(session, edges)


async def announce(
    session: Session, objects: ObjectStore, who: Identity, message: wire.RecordingAnnounce
) -> wire.RecordingReply:
    """Say whether a recording is wanted and where to put it."""
    _check_times((message.started_at, message.ended_at))
    held = await store.find_recording(session, message.sha256)
    if held is not None and held.state == RecordingState.STORED:
        return wire.RecordingReply(state=wire.RecordingState.HAVE)
    if held is not None and held.state == RecordingState.REJECTED:
        return wire.RecordingReply(state=wire.RecordingState.DECLINED, reason=held.reason)
    known_model = await lineage.is_known(session, Node(Kind.MODEL_VERSION, message.content_digest))
    recent = await store.recordings_last_hour(session, who.id)
    reason = why_decline(QUOTA, message.size_bytes, recent, known_model=known_model)
    if held is None and await objects.exists(message.sha256):
        reason = NOT_A_RECORDING
    state = RecordingState.DECLINED if reason else RecordingState.ANNOUNCED
    await store.put_recording(
        session,
        {
            **message.model_dump(exclude={"sha256", "signed"}),
            "sha256": message.sha256,
            "device_id": who.id,
            "site": who.site,
            "state": state,
            "reason": reason or "",
            "facts": {},
        },
    )
    if reason:
        return wire.RecordingReply(state=wire.RecordingState.DECLINED, reason=reason)
    url = await objects.upload_url(message.sha256, message.size_bytes, UPLOAD_S)
    return wire.RecordingReply(
        state=wire.RecordingState.WANTED, upload_url=url, expires_at=clock.now() + timedelta(seconds=UPLOAD_S)
    )


async def complete(session: Session, objects: ObjectStore, who: Identity, sha256: str) -> wire.RecordingReply:
    """Look into an uploaded recording; keep it if it is what it says."""
    recording = await store.find_recording(session, sha256, lock=True)
    if recording is None or recording.device_id != who.id:
        raise NotFound("this device announced no such recording")
    if recording.state == RecordingState.STORED:
        return wire.RecordingReply(state=wire.RecordingState.HAVE)
    if recording.state in (RecordingState.DECLINED, RecordingState.REJECTED):
        return wire.RecordingReply(state=wire.RecordingState.DECLINED, reason=recording.reason)
    if await settle(objects, sha256, recording.size_bytes) is None:
        url = await objects.upload_url(sha256, recording.size_bytes, UPLOAD_S)
        return wire.RecordingReply(
            state=wire.RecordingState.WANTED, upload_url=url, reason="nothing with that digest and size has arrived yet"
        )
    wrong = await _look_into(objects, recording)
    if wrong:
        recording.state, recording.reason = RecordingState.REJECTED, wrong
        await objects.delete(sha256)
        return wire.RecordingReply(state=wire.RecordingState.DECLINED, reason=wrong)
    recording.state, recording.number = RecordingState.STORED, await store.next_recording_number(session)
    sources = [Node(Kind.FIELD_EVENT, recording.event_id)] if recording.event_id else [Node(Kind.DEVICE, who.id)]
    await lineage.link(session, Node(Kind.RECORDING, sha256), sources, "recorded")
    await emit(session, "recording.stored", {"sha256": sha256})
    return wire.RecordingReply(state=wire.RecordingState.HAVE)


async def _look_into(objects: ObjectStore, recording: Recording) -> str | None:
    try:
        data = await objects.read(recording.sha256, max_size=wire.LIMITS["recording_bytes"])
        most = wire.LIMITS["recording_decoded_bytes"]
        recording.facts = await asyncio.to_thread(inspect_recording, data, most)
    except (RecordingError, CorruptObjectError) as error:
        return str(error)
    return None


async def list_events(
    session: Session,
    *,
    kind: str | None = None,
    content: str | None = None,
    after: str | None = None,
    since_number: int | None = None,
    limit: int = 50,
) -> Page[FieldEventItem]:
    """List newest first; with `since_number`, oldest first from there."""
    cursor = decode_cursor(after, int)
    place = cursor[0] if cursor else None
    forward = since_number is not None
    found = await store.list_events(
        session,
        kind=kind,
        content=content,
        before=None if forward else place,
        after=(place if place is not None else since_number) if forward else None,
        limit=limit + 1,
    )
    items = [FieldEventItem.model_validate(event, from_attributes=True) for event in found]
    return page_of(items, limit, lambda item: item.number)


async def list_recordings(
    session: Session,
    *,
    state: RecordingState | None = RecordingState.STORED,
    trigger: str | None = None,
    after: str | None = None,
    since_number: int | None = None,
    limit: int = 50,
) -> Page[RecordingItem]:
    """List recordings in the order in which they were stored."""
    cursor = decode_cursor(after, int)
    found = await store.list_recordings(
        session, state=state, trigger=trigger, after=cursor[0] if cursor else since_number, limit=limit + 1
    )
    return page_of([_recording(r) for r in found], limit, lambda item: item.number)


async def get_recording(session: Session, sha256: str) -> RecordingItem:
    found = await store.find_recording(session, sha256)
    if found is None:
        raise NotFound(f"there is no recording {sha256}")
    return _recording(found)


def _recording(found: Recording) -> RecordingItem:
    return RecordingItem.model_validate(found, from_attributes=True)


async def count_events_since(session: Session, after: int, kinds: Sequence[str]) -> tuple[int, int]:
    return await store.count_events_since(session, after, kinds)


async def sums(
    session: Session, contents: Sequence[str] | None = None, since: datetime | None = None
) -> list[RateLine]:
    return [RateLine.model_validate(dict(line)) for line in await store.sums(session, contents, since)]


async def increments(
    session: Session, canary: str, kinds: Sequence[str], since: datetime, unit: str, bucket_s: float = 5.0
) -> Sequence[Row]:
    return await store.increments(session, canary, kinds, since, unit, bucket_s)


async def by_device(
    session: Session, content: str, kinds: Sequence[str], since: datetime | None, unit: str
) -> Sequence[Row]:
    return await store.by_device(session, content, kinds, since, unit)


async def rate(session: Session, content: str, kinds: Sequence[str], unit: str, since: datetime | None = None) -> Rate:
    """Return events per unit with a 95 % interval that treats each device as one cluster."""
    found = [line for line in await store.by_device(session, content, kinds, since, unit) if line["canary"]]
    events = [int(line["events"]) for line in found]
    exposures = [float(line["exposure"]) for line in found]
    interval = rate_interval(events, exposures, 0.95)
    return Rate(
        content_digest=content,
        events=sum(events),
        exposure=sum(exposures),
        unit=unit,
        rate=interval.estimate,
        low=interval.low,
        devices=len(found),
        high=interval.high if math.isfinite(interval.high) else None,
    )


async def ensure_partitions(session: Session, now: datetime) -> None:
    """Make room for this month and the next two."""
    starts = [_month(now, ahead) for ahead in range(4)]
    await store.ensure_partitions(session, list(pairwise(starts)))


def _month(now: datetime, ahead: int) -> datetime:
    index = now.year * 12 + now.month - 1 + ahead
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)
