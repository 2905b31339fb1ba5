"""One device's windows of the last hours, added up in steps of time."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from control_plane.kit.db import Row, Session, rows

WINDOWS_MOST = 50_000
CLOCK_AHEAD = timedelta(minutes=10)


async def steps(session: Session, device_id: str, start: datetime, stop: datetime, step_s: int) -> Sequence[Row]:
    """Return (slot, ...) of the slots that have windows; days of arrival that cannot have any are not looked at."""
    return await rows(
        session,
        """select floor(extract(epoch from ended_at - :start) / :step)::int as slot,
               sum(latency_p50_ms * greatest(decisions, 1)) / sum(greatest(decisions, 1)) as latency_p50_ms,
               max(latency_p99_ms) as latency_p99_ms,
               sum(energy_j) / nullif(sum(duration_s) filter (where energy_j is not null), 0) as power_w,
               sum(distance_m) as distance_m, sum(duration_s) as duration_s
           from (select ended_at, latency_p50_ms, latency_p99_ms, decisions, energy_j, duration_s, distance_m
                 from telemetry_window
                 where device_id = :device and received_at >= :earliest and ended_at >= :start and ended_at < :stop
                 limit :most) as found
           group by 1 order by 1""",
        device=device_id,
        start=start,
        stop=stop,
        earliest=start - CLOCK_AHEAD,
        step=step_s,
        most=WINDOWS_MOST,
    )
