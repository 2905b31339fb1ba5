"""Things to be done once the transaction that asked for them has committed.

`emit` writes a row in the caller's transaction; `dispatch` hands due rows to a handler, at least once and in order of
writing, with back-off. A lower slice speaks to a higher one only in this way.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from control_plane.kit import clock, tracing
from control_plane.kit.db import Database, Row, Session, execute, rows
from control_plane.kit.metrics import Family, Measured, measure

Handler = Callable[[Session, Any], Awaitable[None]]
MAX_ATTEMPTS = 1000
KEPT = timedelta(days=30)
"""How long one can see what was done about something."""
MOST_TOLD = 2000
LINEAGE = "lineage.event"
"""Outbox topic: a run began or ended, for whoever collects run events."""


PENDING = Family("fleetloop_outbox_pending", "Things that are still to be done about what was committed.", ("topic",))
OLDEST = Family("fleetloop_outbox_oldest_seconds", "Age of the oldest of them.", ("topic",))


async def measures(session: Session) -> list[Measured]:
    waiting = "from kit_outbox where done_at is null group by topic"
    age = "extract(epoch from now() - min(created_at))"
    return [
        await measure(session, PENDING, f"select topic, count(*) as value {waiting}"),
        await measure(session, OLDEST, f"select topic, {age} as value {waiting}"),
    ]


async def emit(session: Session, topic: str, payload: Mapping[str, Any], traceparent: str | None = None) -> None:
    """Write down what is to be done, and of which trace it is: the one that is given, else the caller's."""
    await execute(
        session,
        "insert into kit_outbox (topic, payload, traceparent) values (:topic, cast(:payload as jsonb), :traceparent)",
        topic=topic,
        payload=json.dumps(payload),
        traceparent=traceparent or tracing.header(),
    )
    await execute(session, "select pg_notify('fleetloop', :topic)", topic=topic)


async def tell(session: Session, topic: str, subject: str, because: str, page: str) -> None:
    """Emit what people outside may want to hear: of what, why, and the path of the page that says more."""
    at = clock.now().isoformat()
    await emit(session, topic, {"subject": subject, "because": because[:MOST_TOLD], "page": page, "at": at})


async def tell_lineage(session: Session, kind: str, name: str, event: str, at: datetime) -> None:
    """Emit that a run of some kind began or ended; `event` is OpenLineage's word: START, COMPLETE, FAIL or ABORT."""
    await emit(session, LINEAGE, {"kind": kind, "name": name, "event": event, "at": at.isoformat()})


async def newest_trace(session: Session, topic: str, kinds: Sequence[str], since: datetime | None) -> str | None:
    """Return the traceparent of the newest row of a topic whose `kinds` hold one of these; done or not."""
    found = await rows(
        session,
        """select traceparent from kit_outbox
           where topic = :topic and traceparent is not null and jsonb_exists_any(payload -> 'kinds', :kinds)
             and (cast(:since as timestamptz) is null or created_at > :since) order by id desc limit 1""",
        topic=topic,
        kinds=list(kinds),
        since=since,
    )
    return str(found[0]["traceparent"]) if found else None


async def forget(session: Session, before: datetime, most: int) -> int:
    """Delete the oldest rows that were done with before an instant, at most so many; return how many went."""
    return await execute(
        session,
        """delete from kit_outbox where id in (
             select id from kit_outbox where done_at < :before order by id limit :most for update skip locked)""",
        before=before,
        most=most,
    )


async def dispatch(database: Database, handlers: Mapping[str, Handler], limit: int = 20) -> int:
    """Hand over at most `limit` due rows, each in a transaction of its own; return how many succeeded."""
    done = 0
    for _ in range(limit):
        claimed = await _claim(database, list(handlers))
        if claimed is None:
            break
        done += await _hand_over(database, handlers, claimed)
    return done


async def _claim(database: Database, topics: list[str]) -> Row | None:
    # The claim itself pushes the next attempt out, so a dispatcher that dies leaves the row to be retried later.
    async with database.transaction() as session:
        claimed = await rows(
            session,
            """update kit_outbox set attempts = attempts + 1,
                      next_at = now() + least(power(2, attempts), 30) * interval '1 second'
               where id = (select id from kit_outbox where done_at is null and next_at <= now()
                           and topic = any(:topics) and attempts < :most order by id limit 1 for update skip locked)
               returning id, topic, payload, traceparent""",
            topics=topics,
            most=MAX_ATTEMPTS,
        )
    return claimed[0] if claimed else None


async def _hand_over(database: Database, handlers: Mapping[str, Handler], claimed: Row) -> int:
    """Do what a row asks for, as a part of the trace in which it was written."""
    if not claimed["traceparent"]:
        return await _do(database, handlers, claimed)
    with tracing.span(f"outbox {claimed['topic']}", parent=claimed["traceparent"], kind="consumer"):
        return await _do(database, handlers, claimed)


async def _do(database: Database, handlers: Mapping[str, Handler], claimed: Row) -> int:
    try:
        async with database.transaction() as session:
            await handlers[claimed["topic"]](session, claimed["payload"])
            await execute(
                session, "update kit_outbox set done_at = now(), error = null where id = :id", id=claimed["id"]
            )
    except Exception as error:  # noqa: BLE001 - whatever a handler raises, the row stays and is tried again
        async with database.transaction() as session:
            await execute(
                session,
                "update kit_outbox set error = :error where id = :id",
                id=claimed["id"],
                error=f"{type(error).__name__}: {error}"[:500],
            )
        return 0
    return 1
