"""One device's windows of the last hours, added up in steps of time."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from control_plane.kit.db import Row, Session, rows

WINDOWS_MOST = 100_000
"""The newest are looked at: a week of windows of six seconds."""
CHANGES_MOST = 50
CLOCK_AHEAD = timedelta(minutes=10)
_FOUND = """
    select * from telemetry_window
    where device_id = :device and received_at >= :earliest and ended_at >= :start and ended_at < :stop
    order by received_at desc, seq desc limit :most
"""
_STEPS = f"""
    with found as ({_FOUND})
    select floor(extract(epoch from ended_at - :start) / :step)::int as slot,
        sum(latency_p50_ms * greatest(decisions, 1)) / sum(greatest(decisions, 1)) as latency_p50_ms,
        max(latency_p99_ms) as latency_p99_ms,
        sum(energy_j) / nullif(sum(duration_s) filter (where energy_j is not null), 0) as power_w,
        min(energy_j / nullif(duration_s, 0)) as power_min_w, max(energy_j / nullif(duration_s, 0)) as power_max_w,
        sum(distance_m) as distance_m, sum(duration_s) as duration_s,
        max(temperature_max_c) as heat_c, min(temperature_max_c) as heat_min_c, sum(throttled_s) as throttled_s,
        telemetry_sum_counts(counts) filter (where counts <> '{{}}') as counts
    from found group by 1 order by 1
"""  # noqa: S608 - put together from texts of this module
_CHANGES = f"""
    with found as ({_FOUND}),
    runs as (select ended_at, seq, content_digest,
                 lag(content_digest) over (order by ended_at, seq) as before from found)
    select ended_at as at, content_digest from runs
    where before is distinct from content_digest order by ended_at desc, seq desc limit :changes
"""  # noqa: S608 - put together from texts of this module


async def steps(session: Session, device_id: str, start: datetime, stop: datetime, step_s: int) -> Sequence[Row]:
    """Return (slot, ...) of the slots that have windows; days of arrival that cannot have any are not looked at."""
    return await rows(
        session, _STEPS, device=device_id, start=start, stop=stop, earliest=start - CLOCK_AHEAD,
        step=step_s, most=WINDOWS_MOST,
    )  # fmt: skip


async def changes(session: Session, device_id: str, start: datetime, stop: datetime) -> Sequence[Row]:
    """Return (at, content_digest) of the first window and of every one with another content than its predecessor.

    The newest `CHANGES_MOST`, oldest first.
    """
    found = await rows(
        session, _CHANGES, device=device_id, start=start, stop=stop, earliest=start - CLOCK_AHEAD,
        most=WINDOWS_MOST, changes=CHANGES_MOST,
    )  # fmt: skip
    return found[::-1]
