"""Partitions of windows and events."""

from collections.abc import Sequence
from datetime import datetime

from control_plane.kit.db import Session, execute, row


async def ensure_partitions(session: Session, months: Sequence[tuple[datetime, datetime]]) -> None:
    for start, stop in months:
        for table in ("telemetry_window", "telemetry_event"):
            name = f"{table}_{start:%Y_%m}"
            bounds = {"start": start, "stop": stop}
            strayed = f"select 1 from {table}_default where received_at >= :start and received_at < :stop limit 1"  # noqa: S608 - table is one of two literals
            if await row(session, strayed, **bounds) is not None:
                continue  # a month whose rows came before its partition stays in the default one
            await execute(
                session,
                f"create table if not exists {name} partition of {table} "
                f"for values from ('{start:%Y-%m-%d}') to ('{stop:%Y-%m-%d}')",
            )
