"""Answers that are kept for a repeat of the request that made something (`kit.http.Call.once`), and how long."""

import time
from datetime import datetime, timedelta

from control_plane.kit import clock
from control_plane.kit.db import Database, Session, execute

KEPT = timedelta(days=7)
"""A repeat that comes later makes the thing anew: clients give up after minutes."""
MOST_A_PASS = 10_000
LOOK_S = 600.0


async def forget(session: Session, before: datetime, most: int) -> int:
    """Delete the oldest answers from before an instant, at most so many; return how many went."""
    return await execute(
        session,
        """delete from kit_idempotency where name in (
             select name from kit_idempotency where at < :before order by at limit :most for update skip locked)""",
        before=before,
        most=most,
    )


class Forgetter:
    """The worker's part: a pass every ten minutes, and the next one at once while there is more."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next_at_s = 0.0

    async def tick(self) -> int:
        """Return how many answers went."""
        if time.monotonic() < self._next_at_s:
            return 0
        async with self._database.transaction() as session:
            gone = await forget(session, clock.now() - KEPT, MOST_A_PASS)
        if gone < MOST_A_PASS:
            self._next_at_s = time.monotonic() + LOOK_S
        return gone
