"""Wide reads on a streaming replica, as fresh as the primary: a read waits for what was committed when it was asked.

What a replica has replayed is compared with what the primary had flushed at that moment. A replica that does not get
there in time, does not answer, or is none, is left alone for a while, and the primary is read.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from control_plane.kit.db import DATABASE_ERRORS, Database, Session, is_outage, sqlstate
from control_plane.kit.errors import Unavailable
from control_plane.kit.metrics import WIDE_READS

WAIT_S: Final = 0.25
ASK_S: Final = 0.01
REST_S: Final = 5.0
ANSWER_S: Final = 1.0
CONFLICT: Final = ("40001", "40P01")  # a replica ends a read that stands in the way of what it has to replay
log = logging.getLogger("fleetloop.replica")

_FLUSHED = text("select cast(pg_current_wal_flush_lsn() as text)")
_REPLAYED = text(
    "select pg_is_in_recovery() as replica, "
    "coalesce(pg_last_wal_replay_lsn() >= cast(cast(:lsn as text) as pg_lsn), false) as fresh"
)


class Reader:
    """Gives sessions for wide reads; `replica` is read only while it is as fresh as the primary."""

    def __init__(self, primary: Database, replica: Database | None = None) -> None:
        self._primary = primary
        self._replica = replica
        self._rest_until = 0.0

    @classmethod
    def opened(cls, primary: Database, url: str | None, *, pool_size: int) -> "Reader":
        replica = Database(url, pool_size=pool_size, pooled=True) if url else None
        return cls(primary, replica)

    async def close(self) -> None:
        if self._replica is not None:
            await self._replica.close()

    @asynccontextmanager
    async def session(self, held: Session) -> AsyncIterator[Session]:
        """Give the replica's session, read-only, or `held` itself, which is the primary's.

        `held` is committed where the replica is read: it holds no connection meanwhile.

        Raises:
            Unavailable: the replica ended the read; the next one goes to the primary.
        """
        async with AsyncExitStack() as stack:
            fresh = await self._fresh(held, stack)
            if fresh is None:
                await stack.aclose()  # a connection that is not read is not kept while the primary's is
                yield held
                return
            await held.commit()
            try:
                yield fresh
            except DATABASE_ERRORS as error:
                if sqlstate(error) not in CONFLICT and not is_outage(error):
                    raise
                self._rest("ended a read")
                raise Unavailable("the replica of the database ended this read; try again") from error

    async def _fresh(self, held: Session, stack: AsyncExitStack) -> Session | None:
        """Return a session of the replica that sees all that was committed when this was called.

        The primary is asked by the connection that the request has: who waited for a second one of the same pool, with
        all of it held by others who do, would wait for ever.
        """
        if self._replica is None:
            return None
        session = None
        if time.monotonic() >= self._rest_until:
            lsn = (await held.execute(_FLUSHED)).scalar_one()
            try:
                async with asyncio.timeout(ANSWER_S):
                    session = await self._reached(await stack.enter_async_context(self._replica.reading()), lsn)
            except (OSError, TimeoutError, SQLAlchemyError, *DATABASE_ERRORS) as error:
                self._rest(f"does not answer ({type(error).__name__})")
        WIDE_READS.labels("primary" if session is None else "replica").inc()
        return session

    async def _reached(self, session: Session, lsn: str) -> Session | None:
        give_up = time.monotonic() + WAIT_S
        while True:
            found = (await session.execute(_REPLAYED, {"lsn": lsn})).one()
            if found.fresh:
                return session
            if not found.replica:
                self._rest("takes writes, so it is none")
                return None
            if time.monotonic() >= give_up:
                self._rest(f"was not there within {WAIT_S:g} s")
                return None
            await asyncio.sleep(ASK_S)

    def _rest(self, why: str) -> None:
        self._rest_until = time.monotonic() + REST_S
        log.warning("the replica %s; the primary is read for %g s", why, REST_S)
