"""How much and how well a fleet usually drives, by stratum."""

from collections.abc import Sequence
from datetime import datetime

from control_plane.kit.db import Row, Session, rows


async def pace(
    session: Session,
    device_classes: Sequence[str],
    sites: Sequence[str] | None,
    contents: Sequence[str],
    kinds: Sequence[str],
    since: datetime,
) -> Sequence[Row]:
    """Return (site, device_class, distance_m, duration_s, events, begun_at) since an instant, from cells."""
    return await rows(
        session,
        """
        select site, device_class, sum(distance_mm) / 1000.0::float8 as distance_m,
               sum(duration_ms) / 1000.0::float8 as duration_s, min(starts_at) as begun_at,
               coalesce(sum((select sum(value::bigint) from jsonb_each_text(counts)
                             where key = any(cast(:kinds as text[])))), 0)::bigint as events
        from telemetry_cell
        where device_class = any(cast(:classes as text[]))
          and (cast(:sites as text[]) is null or site = any(cast(:sites as text[])))
          and content_digest = any(cast(:contents as text[])) and starts_at >= :since
        group by site, device_class order by site, device_class
        """,
        classes=list(device_classes),
        sites=None if sites is None else list(sites),
        contents=list(contents),
        kinds=list(kinds),
        since=since,
    )
