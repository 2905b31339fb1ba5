"""Sums over windows themselves."""

from collections.abc import Sequence
from datetime import datetime

from control_plane.kit.db import Row, Session, rows


async def by_device(
    session: Session, content: str, kinds: Sequence[str], since: datetime | None, unit: str
) -> Sequence[Row]:
    """Return (device_id, site, device_class, canary, events, exposure): one content apart from all others."""
    column = {"distance_m": "distance_m", "duration_s": "duration_s"}[unit]
    return await rows(
        session,
        f"""
        select device_id, site, device_class, content_digest = :content as canary, sum({column}) as exposure,
               sum((select coalesce(sum(value::bigint), 0) from jsonb_each_text(counts)
                    where key = any(cast(:kinds as text[]))))::bigint as events
        from telemetry_window where received_at >= coalesce(cast(:since as timestamptz), '-infinity')
        group by device_id, site, device_class, canary order by device_id
        """,  # noqa: S608 - the column is one of two literals
        content=content,
        kinds=list(kinds),
        since=since,
    )


async def increments(
    session: Session, canary: str, kinds: Sequence[str], since: datetime, unit: str, bucket_s: float
) -> Sequence[Row]:
    """Sum windows since an instant by site, class and time bucket, the canary's content apart from all others."""
    column = {"distance_m": "distance_m", "duration_s": "duration_s"}[unit]
    return await rows(
        session,
        f"""
        select site, device_class,
               floor(extract(epoch from received_at - cast(:since as timestamptz))
                     / cast(:bucket as float8))::bigint as bucket,
               coalesce(sum({column}) filter (where content_digest = :canary), 0) as canary_exposure,
               coalesce(sum({column}) filter (where content_digest <> :canary), 0) as control_exposure,
               coalesce(sum(n) filter (where content_digest = :canary), 0)::bigint as canary_events,
               coalesce(sum(n) filter (where content_digest <> :canary), 0)::bigint as control_events
        from (select *, (select coalesce(sum(value::bigint), 0) from jsonb_each_text(counts)
                         where key = any(cast(:kinds as text[]))) as n
              from telemetry_window where received_at >= cast(:since as timestamptz)) w
        group by site, device_class, bucket order by bucket, site, device_class
        """,  # noqa: S608 - the column is one of two literals
        canary=canary,
        kinds=list(kinds),
        since=since,
        bucket=bucket_s,
    )
