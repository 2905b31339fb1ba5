"""Rows of people and sessions."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, text, update

from control_plane.access.models import AccessSession, Person
from control_plane.kit.db import Session, execute, rows


async def lock_names(session: Session) -> None:
    """Take the lock of all names: a person and a token never share one, and no constraint spans both tables."""
    await session.execute(text("select pg_advisory_xact_lock(72002)"))


async def find_person(session: Session, name: str, *, lock: bool = False) -> Person | None:
    query = select(Person).where(Person.name == name)
    return (await session.scalars(query.with_for_update() if lock else query)).one_or_none()


async def find_subject(session: Session, subject: str) -> Person | None:
    return (await session.scalars(select(Person).where(Person.subject == subject).with_for_update())).one_or_none()


async def list_people(session: Session, limit: int) -> Sequence[Person]:
    return (await session.scalars(select(Person).order_by(Person.name).limit(limit))).all()


async def find_session(session: Session, digest: str) -> AccessSession | None:
    return await session.get(AccessSession, digest)


async def touch(session: Session, digest: str, now: datetime) -> None:
    """Remember that a session is used; whoever holds its row does that already."""
    row = select(AccessSession.hash).where(AccessSession.hash == digest).with_for_update(skip_locked=True)
    await session.execute(
        update(AccessSession).where(AccessSession.hash.in_(row)).values(seen_at=now),
        execution_options={"synchronize_session": False},
    )


async def end_session(session: Session, digest: str) -> None:
    await session.execute(delete(AccessSession).where(AccessSession.hash == digest))


async def end_sessions(session: Session, name: str, *, but: str | None = None) -> None:
    """End all sessions of a name, but one."""
    query = delete(AccessSession).where(AccessSession.name == name)
    await session.execute(query if but is None else query.where(AccessSession.hash != but))


async def end_old(session: Session, unseen_since: datetime, made_before: datetime, limit: int) -> None:
    old = (AccessSession.seen_at < unseen_since) | (AccessSession.made_at < made_before)
    some = select(AccessSession.hash).where(old).limit(limit).with_for_update(skip_locked=True)
    await session.execute(delete(AccessSession).where(AccessSession.hash.in_(some)))


async def end_beyond(session: Session, name: str, most: int) -> None:
    """End the oldest sessions of a name that has too many."""
    kept = select(AccessSession.hash).where(AccessSession.name == name).order_by(AccessSession.made_at.desc())
    extra = kept.offset(most).subquery()
    await session.execute(delete(AccessSession).where(AccessSession.hash.in_(select(extra.c.hash))))


async def attempt(session: Session, keys: Sequence[str], most: int, within_s: float) -> bool:
    """Note an attempt of every key if none has had `most` within so many seconds; say whether it was noted.

    The locks of the keys are taken in their order, so that attempts at the same time count one after the other.
    """
    for key in keys:
        await execute(session, "select pg_advisory_xact_lock(hashtextextended('attempt:' || :key, 0))", key=key)
    await execute(
        session,
        """delete from access_attempt where ctid in (
             select ctid from access_attempt where at < now() - make_interval(secs => :within) limit 100)""",
        within=within_s,
    )
    found = await rows(
        session,
        """select key from access_attempt where key = any(:keys) and at >= now() - make_interval(secs => :within)
           group by key having count(*) >= :most""",
        keys=list(keys),
        within=within_s,
        most=most,
    )
    if not found:
        await execute(session, "insert into access_attempt (key) select unnest(cast(:keys as text[]))", keys=list(keys))
    return not found


async def take_back(session: Session, keys: Sequence[str]) -> None:
    await execute(
        session,
        """delete from access_attempt where ctid in (
             select distinct on (key) ctid from access_attempt where key = any(:keys) order by key, at desc)""",
        keys=list(keys),
    )
