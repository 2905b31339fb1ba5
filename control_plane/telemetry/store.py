"""Telemetry in and out. Windows and events go in by COPY; sums come out by one group-by."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert

from agents.protocol import v1 as wire
from control_plane.kit.db import Row, Session, copy_rows, execute, row, rows
from control_plane.telemetry.models import FieldEvent, Recording

WINDOW_COLUMNS = (
    "device_id",
    "stream_id",
    "seq",
    "received_at",
    "site",
    "device_class",
    "content_digest",
    "started_at",
    "ended_at",
    "distance_m",
    "duration_s",
    "decisions",
    "energy_j",
    "counts",
    "latency_p50_ms",
    "latency_p99_ms",
)
EVENT_COLUMNS = (
    "device_id",
    "stream_id",
    "seq",
    "received_at",
    "event_id",
    "kind",
    "site",
    "device_class",
    "content_digest",
    "at",
    "details",
)


async def lock_stream(session: Session, device_id: str, stream_id: str) -> int:
    """Take the stream's row for this transaction and return what it has acknowledged."""
    found = await row(
        session,
        """insert into telemetry_stream (device_id, stream_id, acknowledged_seq) values (:device, :stream, -1)
           on conflict (device_id, stream_id) do update set device_id = excluded.device_id
           returning acknowledged_seq""",
        device=device_id,
        stream=stream_id,
    )
    return int(found["acknowledged_seq"]) if found else -1


async def acknowledge(session: Session, device_id: str, stream_id: str, seq: int) -> None:
    await execute(
        session,
        "update telemetry_stream set acknowledged_seq = :seq where device_id = :device and stream_id = :stream",
        seq=seq,
        device=device_id,
        stream=stream_id,
    )


async def copy_windows(
    session: Session, who: tuple[str, str, str], stream_id: str, at: datetime, windows: Sequence[wire.ExposureWindow]
) -> None:
    device_id, site, device_class = who
    await copy_rows(
        session,
        "telemetry_window",
        WINDOW_COLUMNS,
        [
            (
                device_id,
                stream_id,
                w.seq,
                at,
                site,
                device_class,
                w.content_digest,
                w.started_at,
                w.ended_at,
                w.distance_m,
                w.duration_s,
                w.decisions,
                w.energy_j,
                json.dumps(w.counts),
                w.latency_p50_ms,
                w.latency_p99_ms,
            )
            for w in windows
        ],
    )


async def copy_events(
    session: Session, who: tuple[str, str, str], stream_id: str, at: datetime, events: Sequence[wire.FieldEvent]
) -> None:
    device_id, site, device_class = who
    await copy_rows(
        session,
        "telemetry_event",
        EVENT_COLUMNS,
        [
            (
                device_id,
                stream_id,
                e.seq,
                at,
                e.event_id,
                e.kind,
                site,
                device_class,
                e.content_digest,
                e.at,
                json.dumps(e.details),
            )
            for e in events
        ],
    )


async def list_events(
    session: Session, *, kind: str | None, content: str | None, before: int | None, after: int | None, limit: int
) -> Sequence[FieldEvent]:
    """List newest first, or oldest first when `after` is given."""
    order = FieldEvent.number.asc() if after is not None else FieldEvent.number.desc()
    query = select(FieldEvent).order_by(order).limit(limit)
    if kind is not None:
        query = query.where(FieldEvent.kind == kind)
    if content is not None:
        query = query.where(FieldEvent.content_digest == content)
    if before is not None:
        query = query.where(FieldEvent.number < before)
    if after is not None:
        query = query.where(FieldEvent.number > after)
    return (await session.scalars(query)).all()


async def count_events_since(session: Session, after: int, kinds: Sequence[str]) -> tuple[int, int]:
    """Return how many events of some kinds came after a number, and the highest number there is."""
    found = (
        await session.execute(
            select(
                func.count().filter(FieldEvent.kind.in_(kinds)),
                func.coalesce(func.max(FieldEvent.number), after),
            ).where(FieldEvent.number > after)
        )
    ).one()
    return int(found[0]), int(found[1])


async def find_recording(session: Session, sha256: str, *, lock: bool = False) -> Recording | None:
    query = select(Recording).where(Recording.sha256 == sha256)
    return await session.scalar(query.with_for_update() if lock else query)


async def put_recording(session: Session, values: dict[str, Any]) -> None:
    """Insert; one that was declined before is judged anew, any other stays as it is."""
    statement = insert(Recording).values(values)
    anew = {key: values[key] for key in ("state", "reason", "device_id", "site", "size_bytes")}
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["sha256"],
            set_=anew | {"announced_at": func.now()},
            where=Recording.state == "declined",
        )
    )


async def next_recording_number(session: Session) -> int:
    # A lock, not a sequence: readers page by this number, so a lower one must not appear after a higher one.
    await execute(session, "select pg_advisory_xact_lock(72002)")
    return int(await session.scalar(select(func.coalesce(func.max(Recording.number), 0))) or 0) + 1


async def recordings_last_hour(session: Session, device_id: str) -> int:
    query = select(func.count()).where(
        Recording.device_id == device_id,
        Recording.announced_at > text("now() - interval '1 hour'"),
        Recording.state.in_(("announced", "stored")),
    )
    return int(await session.scalar(query) or 0)


async def list_recordings(
    session: Session, *, state: str | None, after: int | None, trigger: str | None, limit: int
) -> Sequence[Recording]:
    query = select(Recording).where(Recording.number.is_not(None)) if state == "stored" else select(Recording)
    query = query.order_by(Recording.number.asc().nulls_last(), Recording.sha256).limit(limit)
    if state is not None:
        query = query.where(Recording.state == state)
    if trigger is not None:
        query = query.where(Recording.trigger == trigger)
    if after is not None:
        query = query.where(Recording.number > after)
    return (await session.scalars(query)).all()


async def sums(session: Session, contents: Sequence[str] | None, since: datetime | None) -> Sequence[Row]:
    """Sum windows by content, site and class; counts are summed by kind."""
    where = """where (cast(:all as boolean) or content_digest = any(cast(:contents as text[])))
               and received_at >= coalesce(cast(:since as timestamptz), '-infinity')"""
    return await rows(
        session,
        f"""
        with chosen as (select * from telemetry_window {where}),
        counted as (select content_digest, site, device_class, key, sum(value::bigint) as n
                    from chosen, jsonb_each_text(counts) group by 1, 2, 3, 4)
        select content_digest, site, device_class, count(distinct device_id) as devices, count(*) as windows,
               sum(distance_m) as distance_m, sum(duration_s) as duration_s, sum(decisions) as decisions,
               sum(energy_j) as energy_j,
               coalesce((select jsonb_object_agg(key, n) from counted c where c.content_digest = w.content_digest
                         and c.site = w.site and c.device_class = w.device_class), '{{}}') as counts
        from chosen w group by content_digest, site, device_class order by content_digest, site, device_class
        """,
        all=contents is None,
        contents=list(contents or []),
        since=since,
    )


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
        """,
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
        """,
        canary=canary,
        kinds=list(kinds),
        since=since,
        bucket=bucket_s,
    )


async def ensure_partitions(session: Session, months: Sequence[tuple[datetime, datetime]]) -> None:
    for start, stop in months:
        for table in ("telemetry_window", "telemetry_event"):
            name = f"{table}_{start:%Y_%m}"
            bounds = {"start": start, "stop": stop}
            strayed = f"select 1 from {table}_default where received_at >= :start and received_at < :stop limit 1"
            if await row(session, strayed, **bounds) is not None:
                continue  # a month whose rows came before its partition stays in the default one
            await execute(
                session,
                f"create table if not exists {name} partition of {table} "
                f"for values from ('{start:%Y-%m-%d}') to ('{stop:%Y-%m-%d}')",
            )
