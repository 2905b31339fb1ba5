"""Rows of the chain."""

from collections.abc import Sequence

from sqlalchemy import select, text

from control_plane.audit.domain import Entry
from control_plane.audit.models import AuditEntry
from control_plane.kit.db import Session


async def lock_tail(session: Session) -> tuple[int, str] | None:
    """Take the chain's lock for this transaction and return its last seq and hash."""
    await session.execute(text("select pg_advisory_xact_lock(72001)"))
    found = await session.execute(select(AuditEntry.seq, AuditEntry.hash).order_by(AuditEntry.seq.desc()).limit(1))
    tail = found.first()
    return (tail.seq, tail.hash) if tail else None


async def insert(session: Session, entry: Entry) -> None:
    session.add(
        AuditEntry(
            seq=entry.seq,
            at=entry.at,
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            because=entry.because,
            details=dict(entry.details),
            previous=entry.previous,
            hash=entry.hash,
        )
    )
    await session.flush()


async def list_entries(
    session: Session, *, before: int | None, subject: str | None, limit: int
) -> Sequence[AuditEntry]:
    query = select(AuditEntry).order_by(AuditEntry.seq.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditEntry.seq < before)
    if subject is not None:
        query = query.where(AuditEntry.subject == subject)
    return (await session.scalars(query)).all()


async def chunk(session: Session, after: int, limit: int) -> list[Entry]:
    query = select(AuditEntry).where(AuditEntry.seq > after).order_by(AuditEntry.seq).limit(limit)
    found = (await session.scalars(query)).all()
    return [Entry(e.seq, e.at, e.actor, e.action, e.subject, e.because, e.details, e.previous, e.hash) for e in found]
