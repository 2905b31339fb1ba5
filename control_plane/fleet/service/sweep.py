"""Keeps the word for devices that are not heard of: a check-in is too frequent to touch an index, so we look around."""

from datetime import datetime

from control_plane.fleet.domain import SILENT_AFTER
from control_plane.fleet.store import sweep as store
from control_plane.kit.db import Session

SLICE = 10_000


async def sweep(session: Session, after: str, now: datetime) -> str:
    """Look at the next devices by id; return where to go on, "" once all were looked at."""
    if not await store.alone(session):
        return ""
    found = await store.sweep(session, after, SLICE, now - SILENT_AFTER)
    return str(found["last"]) if found is not None and found["looked"] == SLICE else ""


async def fold(session: Session) -> bool:
    return await store.alone(session) and await store.fold(session)
