"""Answers that are kept for a repeat of the request that made something (`kit.http.Call.once`), and how long."""

import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from control_plane.kit import clock
from control_plane.kit.db import Database, Session, execute

KEPT = timedelta(days=7)
"""A repeat that comes later makes the thing anew: clients give up after minutes."""
MOST_A_PASS = 10_000
LOOK_S = 600.0
Forget = Callable[[Session, datetime, int], Awaitable[int]]
"""Deletes what is from before an instant, at most so many; returns how many went."""


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
    """The worker's part: a pass every ten minutes, and the next one at once while there is more.

    What is forgotten, and when, is that of answers unless another `forget` is given.
    """

    def __init__(self, database: Database, forget: Forget = forget, kept: timedelta = KEPT) -> None:
        self._database, self._forget, self._kept = database, forget, kept
        self._next_at_s = 0.0

    async def tick(self) -> int:
        """Return how many went."""
        if time.monotonic() < self._next_at_s:
            return 0
        async with self._database.transaction() as session:
            gone = await self._forget(session, clock.now() - self._kept, MOST_A_PASS)
        if gone < MOST_A_PASS:
            self._next_at_s = time.monotonic() + LOOK_S
        return gone
