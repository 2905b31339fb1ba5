"""Make sums coarser with age, and let them go."""

from datetime import datetime

from control_plane.kit.db import Session, execute, rows
from control_plane.telemetry.domain import PANEL_BITS


async def lock_upkeep(session: Session) -> bool:
    """Say whether this transaction is the one that does it."""
    found = await rows(session, "select pg_try_advisory_xact_lock(72051) as mine")
    return bool(found[0]["mine"])


async def roll_up(session: Session, start: datetime, stop: datetime) -> int:
    """Merge cells of whole hours into one an hour; return how many there are then.

    They keep the newest transaction of what they are made of: nothing has changed for whoever had read it.
    """
    return await execute(
        session,
        """with old as (delete from telemetry_cell where starts_at >= :start and starts_at < :stop and width_s < 3600
                        returning *)
           insert into telemetry_cell (device_class, site, content_digest, starts_at, width_s, first_window_at,
               distance_mm, duration_ms, decisions, energy_mj, windows, counts, changed)
           select device_class, site, content_digest, date_trunc('hour', starts_at, 'UTC'), 3600, min(first_window_at),
               sum(distance_mm), sum(duration_ms), sum(decisions), sum(energy_mj), sum(windows),
               telemetry_sum_counts(counts), max(changed)
           from old group by 1, 2, 3, 4""",
        start=start,
        stop=stop,
    )


async def summarize_cells(session: Session) -> None:
    """Let the index know what pages hold, also those written since autovacuum was last here: others are all read."""
    await execute(session, "select brin_summarize_new_values('ix_telemetry_cell_changed')")


async def forget_cells(session: Session, cutoff: datetime) -> int:
    return await execute(session, "delete from telemetry_cell where starts_at < :cutoff", cutoff=cutoff)


async def forget_devices(session: Session, cutoff: datetime) -> int:
    """Delete sums of devices that are long silent with a content."""
    return await execute(session, "delete from telemetry_device_sum where last_at < :cutoff", cutoff=cutoff)


async def halve_panel(session: Session, halvings: int) -> None:
    """Make the panel's share smaller, never larger, and let go of the sums of those who leave it."""
    changed = await execute(
        session,
        "update telemetry_panel set halvings = :halvings where name = 'devices' and halvings < :halvings",
        halvings=halvings,
    )
    if changed:
        await execute(
            session,
            """delete from telemetry_device_sum
               where ('x' || left(encode(sha256(convert_to(device_id, 'UTF8')), 'hex'), :digits))::bit(32)::bigint
                   >> :bits <> 0""",
            digits=PANEL_BITS // 4,
            bits=PANEL_BITS - halvings,
        )
