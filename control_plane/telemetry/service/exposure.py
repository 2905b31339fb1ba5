"""Give sums of exposure out: read from cells, totals and device sums, which telemetry keeps as it comes in."""

import math
from collections.abc import Sequence
from datetime import datetime

from control_plane.kit.db import Row, Session
from control_plane.kit.statistics import rate_interval
from control_plane.telemetry.domain import CellLine, DeviceSum, incidents
from control_plane.telemetry.schemas import Rate, RateLine
from control_plane.telemetry.store import pace as pace_store
from control_plane.telemetry.store import sums as store

CONFIDENCE = 0.95


async def cells(
    session: Session,
    device_classes: Sequence[str],
    sites: Sequence[str] | None,
    since: datetime,
    changed_after: int = 0,
) -> tuple[list[CellLine], int]:
    """Return all cells that reach beyond `since` and may have changed, and what to give as `changed_after` next time.

    A cell may come twice; its values are absolute, so it replaces what was known of it. Cells are merged into coarser
    ones a month later: what a reader keeps of cells for longer than that it must read anew, from `changed_after` 0.
    """
    return await store.cells(session, device_classes, sites, since, changed_after)


async def device_sums(
    session: Session, device_classes: Sequence[str], sites: Sequence[str] | None, contents: Sequence[str]
) -> list[DeviceSum]:
    """Return what each device of the panel did with each of these contents."""
    return await store.device_sums(session, device_classes, sites, contents)


async def sums(session: Session, contents: Sequence[str] | None = None) -> list[RateLine]:
    """Return exposure and events by content, site and class; in a large fleet `devices` is estimated by the panel."""
    share = 2 ** await store.halvings(session)
    return [_rate_line(line, share) for line in await store.totals(session, contents)]


def _rate_line(line: Row, share: int) -> RateLine:
    energy_mj = line["energy_mj"]
    return RateLine(
        content_digest=line["content_digest"],
        site=line["site"],
        device_class=line["device_class"],
        devices=line["devices"] * share,
        distance_m=line["distance_mm"] / 1000,
        duration_s=line["duration_ms"] / 1000,
        windows=line["windows"],
        decisions=line["decisions"],
        energy_j=None if energy_mj is None else energy_mj / 1000,
        counts=line["counts"],
    )


async def rate(session: Session, content: str, kinds: Sequence[str], unit: str) -> Rate:
    """Return events per unit with a 95 % interval that treats each device as one cluster.

    In a large fleet the interval is as wide, in proportion, as the panel alone makes it: too wide rather than too
    narrow.
    """
    column = {"distance_m": "distance_mm", "duration_s": "duration_ms"}[unit]
    lines = await store.totals(session, [content])
    events = sum(incidents(line["counts"], kinds) for line in lines)
    exposure = sum(line[column] for line in lines) / 1000
    panel = await store.device_sums(session, None, None, [content])
    counts = [incidents(line.counts, kinds) for line in panel]
    amounts = [getattr(line, column) / 1000 for line in panel]
    if sum(counts) == 0 < events:
        counts, amounts = [events], [exposure]  # a panel that saw nothing says nothing about how devices differ
    interval = rate_interval(counts, amounts, CONFIDENCE)
    whole = events / exposure if exposure > 0 else None
    scale = whole / interval.estimate if whole and interval.estimate else 1.0
    return Rate(
        content_digest=content,
        events=events,
        exposure=exposure,
        unit=unit,
        rate=whole,
        low=interval.low * scale,
        high=interval.high * scale if math.isfinite(interval.high) else None,
        devices=len(panel) * 2 ** await store.halvings(session),
    )


async def pace(
    session: Session,
    device_classes: Sequence[str],
    sites: Sequence[str] | None,
    contents: Sequence[str],
    kinds: Sequence[str],
    since: datetime,
) -> Sequence[Row]:
    """Return (site, device_class, distance_m, duration_s, events, begun_at) of some contents since an instant."""
    return await pace_store.pace(session, device_classes, sites, contents, kinds, since)
