"""Rows of the chain."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, select, text

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
    session: Session, before: int | None, wanted: Mapping[str, Any], limit: int
) -> Sequence[AuditEntry]:
    """Return the newest entries before a seq that match; `wanted` is an `AuditFilter`'s fields."""
    query = select(AuditEntry).order_by(AuditEntry.seq.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditEntry.seq < before)
    return (await session.scalars(query.where(*_matching(wanted)))).all()


def _matching(wanted: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    """Return one condition for each field that is given; signs that stand for others are taken for themselves."""
    entry = AuditEntry
    made: dict[str, Callable[[Any], ColumnElement[bool]]] = {
        "actor": lambda value: entry.actor == value,
        "subject": lambda value: entry.subject == value,
        "verb": lambda value: (entry.action == value) | entry.action.startswith(f"{value}.", autoescape=True),
        "text": lambda value: entry.because.icontains(value, autoescape=True),
        "since": lambda value: entry.at >= value,
        "until": lambda value: entry.at < value,
    }
    return [make(wanted[name]) for name, make in made.items() if wanted.get(name)]


async def chunk(session: Session, after: int, limit: int) -> list[Entry]:
    query = select(AuditEntry).where(AuditEntry.seq > after).order_by(AuditEntry.seq).limit(limit)
    found = (await session.scalars(query)).all()
    return [Entry(e.seq, e.at, e.actor, e.action, e.subject, e.because, e.details, e.previous, e.hash) for e in found]
