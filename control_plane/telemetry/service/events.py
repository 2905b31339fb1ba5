"""Field events as they are listed and counted."""

from collections.abc import Collection, Sequence

from control_plane.kit.db import Session
from control_plane.kit.pages import Page, decode_cursor, page_of
from control_plane.telemetry.schemas import FieldEventItem
from control_plane.telemetry.store import records as store


async def list_events(
    session: Session,
    *,
    kind: str | None = None,
    content: str | None = None,
    device: str | None = None,
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
        device=device,
        before=None if forward else place,
        after=(place if place is not None else since_number) if forward else None,
        limit=limit + 1,
    )
    items = [FieldEventItem.model_validate(event, from_attributes=True) for event in found]
    return page_of(items, limit, lambda item: item.number)


async def numbers_of(session: Session, event_ids: Collection[str]) -> dict[str, int]:
    """Return numbers by id, of those events that are still kept."""
    return await store.numbers_of(session, event_ids) if event_ids else {}


async def count_events_since(session: Session, after: int, kinds: Sequence[str]) -> tuple[int, int]:
    return await store.count_events_since(session, after, kinds)
