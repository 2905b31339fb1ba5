"""Attempts to sign in, counted for all processes: beyond a handful a minute, an address or a name must wait.

An attempt counts before it is looked at, in a transaction of its own, so that many at once are not each the first.
"""

from collections.abc import Sequence

from control_plane.access import store
from control_plane.kit.db import Database, Session

MOST = 10
WITHIN_S = 60.0


async def may_try(database: Database, keys: Sequence[str]) -> bool:
    """Count an attempt for every key, unless one of them has had too many within a minute."""
    async with database.transaction() as session:
        return await store.attempt(session, sorted(keys), MOST, WITHIN_S)


async def succeeded(session: Session, keys: Sequence[str]) -> None:
    """Take back the newest attempt of each key: whoever is let in was no stranger."""
    await store.take_back(session, sorted(keys))
