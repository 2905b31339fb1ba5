"""Take recordings if they are wanted and sound."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from agents.protocol import v1 as wire
from control_plane.fleet.domain import Identity
from control_plane.kit import clock
from control_plane.kit.db import Session
from control_plane.kit.errors import Invalid, NotFound
from control_plane.kit.objects import CorruptObjectError, ObjectMissingError, ObjectStore
from control_plane.kit.outbox import emit
from control_plane.kit.pages import Page, decode_cursor, page_of
from control_plane.kit.uploads import settle
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Kind, Node
from control_plane.telemetry.domain import (
    Quota,
    RecordedReplay,
    RecordingError,
    RecordingState,
    inspect_recording,
    replay_of,
    why_decline,
)
from control_plane.telemetry.models import Recording
from control_plane.telemetry.schemas import RecordingItem
from control_plane.telemetry.service.intake import check_times
from control_plane.telemetry.store import records as store

QUOTA = Quota(max_bytes=wire.LIMITS["recording_bytes"], per_hour=2000)
UPLOAD_S = 900
NOT_A_RECORDING = "these bytes are here already, as something else than a recording"
"""Declined because what is rejected later is thrown away: a device must not name a model's file and have it deleted."""


async def announce(
    session: Session, objects: ObjectStore, who: Identity, message: wire.RecordingAnnounce
) -> wire.RecordingReply:
    """Say whether a recording is wanted and where to put it."""
    check_times((message.started_at, message.ended_at))
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


async def recordings_of(session: Session, device_id: str, limit: int) -> list[RecordingItem]:
    """List a device's recordings, newest first, whatever became of them."""
    return [_recording(found) for found in await store.recordings_of(session, device_id, limit)]


async def recorded(session: Session, event_ids: Sequence[str]) -> dict[str, str]:
    """Return the stored recording of each of some events that has one, by event."""
    return await store.recorded(session, event_ids) if event_ids else {}


async def get_recording(session: Session, sha256: str) -> RecordingItem:
    found = await store.find_recording(session, sha256)
    if found is None:
        raise NotFound(f"there is no recording {sha256}")
    return _recording(found)


async def read_replay(session: Session, objects: ObjectStore, sha256: str) -> RecordedReplay:
    """Decode what a stored recording shows of its drive.

    Raises:
        NotFound: it is not stored, or its bytes are lost or damaged.
        Invalid: it does not describe itself; the message says what is missing.
    """
    recording = await get_recording(session, sha256)
    if recording.state is not RecordingState.STORED:
        raise NotFound(f"this recording is not here to be read: it is {recording.state}")
    try:
        data = await objects.read(sha256, max_size=wire.LIMITS["recording_bytes"])
        return await asyncio.to_thread(replay_of, data, wire.LIMITS["recording_decoded_bytes"])
    except (ObjectMissingError, CorruptObjectError) as error:
        raise NotFound(f"this recording is lost: {error}", code="artifact_missing") from error
    except RecordingError as error:
        raise Invalid(str(error), code="not_shown") from error


def _recording(found: Recording) -> RecordingItem:
    return RecordingItem.model_validate(found, from_attributes=True)
