"""Partitions of windows and events: a day of arrival each, so that a day's rows go away in one step.

A day's index is small enough to stay in memory, whatever the retention; a month's of a large fleet is not.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from control_plane.kit.db import Session, attempt, execute, row, rows

TABLES = ("telemetry_window", "telemetry_event")
LOCK_TIMEOUT_MS = 1000
"""Whoever waits for a lock on the table holds up what comes in, so nobody waits long; the next hour tries again."""
_BOUNDS = re.compile(r"FROM \('([^']+)'\) TO \('([^']+)'\)")


class Partition(NamedTuple):
    name: str
    starts_at: datetime
    ends_at: datetime


async def partitions(session: Session, table: str) -> list[Partition]:
    """Return a table's partitions but for the default one, whichever version made them."""
    found = await rows(
        session,
        """select c.relname as name, pg_get_expr(c.relpartbound, c.oid) as bounds
           from pg_inherits i join pg_class c on c.oid = i.inhrelid
           where i.inhparent = cast(:table as regclass) order by c.relname""",
        table=table,
    )
    bounds = [(line["name"], _BOUNDS.search(line["bounds"])) for line in found]
    return [Partition(name, *map(datetime.fromisoformat, match.groups())) for name, match in bounds if match]


async def lock_partitions(session: Session) -> None:
    """Let one process at a time make partitions."""
    await execute(session, "select pg_advisory_xact_lock(72050)")


async def ensure(session: Session, days: Sequence[datetime]) -> None:
    """Make partitions for days that have none."""
    await lock_partitions(session)
    for table in TABLES:
        held = await partitions(session, table)
        for day in days:
            end = day + timedelta(days=1)
            if any(day < other.ends_at and other.starts_at < end for other in held):
                continue
            if not await _has_strayed(session, table, day, end):
                await attempt(
                    session,
                    f"create table {table}_{day:%Y_%m_%d} partition of {table} "
                    f"for values from ('{day.isoformat()}') to ('{end.isoformat()}')",
                    lock_timeout_ms=LOCK_TIMEOUT_MS,
                )


async def _has_strayed(session: Session, table: str, start: datetime, stop: datetime) -> bool:
    """Say whether rows of a day came before its partition: they stay in the default one, and so does the day."""
    query = f"select 1 from {table}_default where received_at >= :start and received_at < :stop limit 1"  # noqa: S608 - table is one of two literals
    return await row(session, query, start=start, stop=stop) is not None


async def drop_before(session: Session, cutoff: datetime) -> None:
    """Drop partitions that end at or before an instant, until one is in use: then the next hour goes on."""
    for table in TABLES:
        query = f"delete from {table}_default where received_at < :cutoff"  # noqa: S608 - table is one of two literals
        await execute(session, query, cutoff=cutoff)
    over = [held.name for table in TABLES for held in await partitions(session, table) if held.ends_at <= cutoff]
    for name in over:
        if not await attempt(session, f"drop table {name}", lock_timeout_ms=LOCK_TIMEOUT_MS):
            return


def days_from(now: datetime, count: int) -> list[datetime]:
    first = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return [first + timedelta(days=ahead) for ahead in range(count)]
