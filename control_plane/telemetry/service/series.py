"""A device's own measurements over time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from control_plane.kit.db import Row, Session
from control_plane.telemetry.schemas import ContentChange, DeviceSeries
from control_plane.telemetry.store import series as store

STEPS = 120
FIGURES = (
    "latency_p50_ms", "latency_p99_ms", "power_w", "power_min_w", "power_max_w", "distance_m", "duration_s",
    "heat_c", "heat_min_c", "throttled_s", "counts",
)  # fmt: skip


async def device_series(session: Session, device_id: str, now: datetime, hours: int) -> DeviceSeries:
    """Return the last hours in `STEPS` steps; the last one is under way."""
    step_s = hours * 3600 // STEPS
    stop = datetime.fromtimestamp((int(now.timestamp()) // step_s + 1) * step_s, tz=now.tzinfo)
    start = stop - timedelta(seconds=STEPS * step_s)
    found = await store.steps(session, device_id, start, stop, step_s)
    changed = [ContentChange(**line) for line in await store.changes(session, device_id, start, stop)]
    return DeviceSeries(device_id=device_id, starts_at=start, step_s=step_s, changes=changed, **spread(found))


def spread(lines: Sequence[Row]) -> dict[str, list[Any]]:
    """Lay lines out over all steps."""
    held: dict[str, list[Any]] = {figure: [None] * STEPS for figure in FIGURES}
    for line in lines:
        if 0 <= line["slot"] < STEPS:
            for figure in FIGURES:
                held[figure][line["slot"]] = line[figure]
    return held
