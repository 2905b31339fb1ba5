"""Write to the chain in the caller's transaction; read it; check it."""

from collections.abc import Mapping
from typing import Any

from control_plane.audit import store
from control_plane.audit.domain import GENESIS, Entry, chain_hash, first_break
from control_plane.audit.schemas import AuditCheck, AuditFilter, AuditItem
from control_plane.kit import clock
from control_plane.kit.db import Session
from control_plane.kit.pages import Page, decode_cursor, page_of


async def record(session: Session, actor: str, action: str, subject: str, because: str = "", **details: Any) -> None:
    """Append one entry. The chain's lock is held until the transaction ends: call it last."""
    tail = await store.lock_tail(session)
    seq, previous = (tail[0] + 1, tail[1]) if tail else (1, GENESIS)
    at = clock.now()
    plain: Mapping[str, Any] = details
    digest = chain_hash(previous, at, actor, action, subject, because, plain)
    await store.insert(session, Entry(seq, at, actor, action, subject, because, plain, previous, digest))


async def list_entries(
    session: Session,
    *,
    after: str | None = None,
    subject: str | None = None,
    matching: AuditFilter | None = None,
    limit: int = 50,
) -> Page[AuditItem]:
    """Return entries, newest first; those of a subject, or those that match."""
    cursor = decode_cursor(after, int)
    wanted = matching or AuditFilter(subject=subject)
    found = await store.list_entries(session, cursor[0] if cursor else None, wanted.model_dump(), limit + 1)
    items = [AuditItem.model_validate(entry, from_attributes=True) for entry in found]
    return page_of(items, limit, lambda item: item.seq)


async def verify(session: Session) -> AuditCheck:
    """Walk the whole chain in chunks."""
    checked, previous = 0, GENESIS
    while entries := await store.chunk(session, checked, 1000):
        broken = first_break(entries, previous)
        if broken is not None:
            return AuditCheck(entries=checked, intact=False, first_break=broken)
        checked, previous = entries[-1].seq, entries[-1].hash
    return AuditCheck(entries=checked, intact=True, first_break=None)
