"""Sessions of people at browsers. The cookie holds a random secret; the row, by its hash, says whose it is."""

import secrets
from datetime import datetime, timedelta

from control_plane.access import store
from control_plane.access.domain import IDLE, LONGEST, Entered, Way, lasts
from control_plane.access.models import AccessSession
from control_plane.kit.auth import hash_token, token_role
from control_plane.kit.db import Session
from control_plane.kit.roles import Role

MARK = timedelta(minutes=1)
MOST_SESSIONS = 20
TIDIED_AT_ONCE = 200
MAX_SECRET = 100


async def begin(session: Session, way: Way, name: str, now: datetime) -> str:
    """Begin a session and return its secret. Old ones are tidied away; a name has only so many."""
    secret = secrets.token_urlsafe(32)
    session.add(AccessSession(hash=hash_token(secret), way=way, name=name, made_at=now, seen_at=now))
    await session.flush()
    await store.end_beyond(session, name, MOST_SESSIONS)
    await store.end_old(session, now - IDLE, now - LONGEST, TIDIED_AT_ONCE)
    return secret


async def end(session: Session, secret: str) -> None:
    await store.end_session(session, hash_token(secret))


async def entered(session: Session, secret: str | None, now: datetime) -> Entered | None:
    """Return who has this session, as they stand now, or None if it is over."""
    if not secret or len(secret) > MAX_SECRET:
        return None
    found = await store.find_session(session, hash_token(secret))
    if found is None or not lasts(found.made_at, found.seen_at, now):
        return None
    role = await _role(session, found)
    if role is None:
        return None
    if now - found.seen_at > MARK:
        await store.touch(session, found.hash, now)
    return Entered(found.name, role, Way(found.way), found.made_at)


async def _role(session: Session, found: AccessSession) -> Role | None:
    if found.way == Way.TOKEN:
        return await token_role(session, found.name)
    person = await store.find_person(session, found.name)
    return Role(person.role) if person is not None and person.active else None
