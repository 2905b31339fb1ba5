"""Field events and recordings, as they are listed."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert

from control_plane.kit.db import Session, execute
from control_plane.telemetry.models import FieldEvent, Recording


async def list_events(
    session: Session,
    *,
    kind: str | None,
    content: str | None,
    device: str | None,
    before: int | None,
    after: int | None,
    limit: int,
) -> Sequence[FieldEvent]:
    """List newest first, or oldest first when `after` is given."""
    order = FieldEvent.number.asc() if after is not None else FieldEvent.number.desc()
    query = select(FieldEvent).order_by(order).limit(limit)
    if device is not None:
        query = query.where(FieldEvent.device_id == device)
    if kind is not None:
        query = query.where(FieldEvent.kind == kind)
    if content is not None:
        query = query.where(FieldEvent.content_digest == content)
    if before is not None:
        query = query.where(FieldEvent.number < before)
    if after is not None:
        query = query.where(FieldEvent.number > after)
    return (await session.scalars(query)).all()


async def count_events_since(session: Session, after: int, kinds: Sequence[str]) -> tuple[int, int]:
    """Return how many events of some kinds came after a number, and the highest number there is."""
    found = (
        await session.execute(
            select(
                func.count().filter(FieldEvent.kind.in_(kinds)),
                func.coalesce(func.max(FieldEvent.number), after),
            ).where(FieldEvent.number > after)
        )
    ).one()
    return int(found[0]), int(found[1])


async def find_recording(session: Session, sha256: str, *, lock: bool = False) -> Recording | None:
    query = select(Recording).where(Recording.sha256 == sha256)
    return await session.scalar(query.with_for_update() if lock else query)


async def put_recording(session: Session, values: dict[str, Any]) -> None:
    """Insert; one that was declined before is judged anew, any other stays as it is."""
    statement = insert(Recording).values(values)
    anew = {key: values[key] for key in ("state", "reason", "device_id", "site", "size_bytes")}
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["sha256"],
            set_=anew | {"announced_at": func.now()},
            where=Recording.state == "declined",
        )
    )


async def next_recording_number(session: Session) -> int:
    # A lock, not a sequence: readers page by this number, so a lower one must not appear after a higher one.
    await execute(session, "select pg_advisory_xact_lock(72002)")
    return int(await session.scalar(select(func.coalesce(func.max(Recording.number), 0))) or 0) + 1


async def recordings_last_hour(session: Session, device_id: str) -> int:
    query = select(func.count()).where(
        Recording.device_id == device_id,
        Recording.announced_at > text("now() - interval '1 hour'"),
        Recording.state.in_(("announced", "stored")),
    )
    return int(await session.scalar(query) or 0)


async def recordings_of(session: Session, device_id: str, limit: int) -> Sequence[Recording]:
    """List a device's recordings, newest first."""
    query = select(Recording).where(Recording.device_id == device_id).order_by(Recording.announced_at.desc())
    return (await session.scalars(query.limit(limit))).all()


async def numbers_of(session: Session, event_ids: Collection[str]) -> dict[str, int]:
    """Return numbers by id, of those events that are still kept."""
    query = select(FieldEvent.event_id, FieldEvent.number).where(FieldEvent.event_id.in_(list(event_ids)))
    return {str(name): int(number) for name, number in (await session.execute(query)).all()}


async def recorded(session: Session, event_ids: Sequence[str]) -> dict[str, str]:
    """Return the stored recording of each of some events that has one, by event."""
    query = select(Recording.event_id, Recording.sha256).where(
        Recording.event_id.in_(event_ids), Recording.state == "stored"
    )
    return {str(event): sha256 for event, sha256 in (await session.execute(query)).all()}


async def list_recordings(
    session: Session, *, state: str | None, after: int | None, trigger: str | None, limit: int
) -> Sequence[Recording]:
    query = select(Recording).where(Recording.number.is_not(None)) if state == "stored" else select(Recording)
    query = query.order_by(Recording.number.asc().nulls_last(), Recording.sha256).limit(limit)
    if state is not None:
        query = query.where(Recording.state == state)
    if trigger is not None:
        query = query.where(Recording.trigger == trigger)
    if after is not None:
        query = query.where(Recording.number > after)
    return (await session.scalars(query)).all()
