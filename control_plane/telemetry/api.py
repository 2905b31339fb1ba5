"""Field events, recordings and sums of exposure."""

from control_plane.kit.http import Cursor, Limit, ViewerCall, WideCall, router
from control_plane.kit.pages import Page
from control_plane.telemetry import service
from control_plane.telemetry.domain import RecordingState
from control_plane.telemetry.schemas import FieldEventItem, RateLine, RecordingItem

api = router("telemetry")


@api.get("/events", name="list_field_events")
async def list_events(
    call: WideCall,
    after: Cursor = None,
    limit: Limit = 50,
    kind: str | None = None,
    content: str | None = None,
    device: str | None = None,
    since_number: int | None = None,
) -> Page[FieldEventItem]:
    """List field events, newest first; with `since_number`, oldest first from there."""
    return await service.list_events(
        call.session, kind=kind, content=content, device=device, after=after, limit=limit, since_number=since_number
    )


@api.get("/recordings", name="list_recordings")
async def list_recordings(
    call: WideCall,
    after: Cursor = None,
    limit: Limit = 50,
    state: RecordingState = RecordingState.STORED,
    trigger: str | None = None,
    since_number: int | None = None,
) -> Page[RecordingItem]:
    """List recordings in the order they were stored."""
    return await service.list_recordings(
        call.session, state=state, trigger=trigger, after=after, limit=limit, since_number=since_number
    )


@api.get("/recordings/{sha256}", name="get_recording")
async def get_recording(sha256: str, call: ViewerCall) -> RecordingItem:
    """Return one recording's facts."""
    return await service.get_recording(call.session, sha256)


@api.get("/exposure", name="sum_exposure")
async def exposure(call: WideCall, content: str | None = None) -> list[RateLine]:
    """Sum exposure and events by content, site and class."""
    return await service.sums(call.session, [content] if content else None)
