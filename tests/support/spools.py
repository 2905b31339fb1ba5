"""What devices still hold and what the server has of it: nothing may be lost, nothing counted twice.

A spool numbers its rows without gaps and forgets what was acknowledged, so the server must hold every number up to the
mark exactly once, and the spool the rest.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from control_plane.kit.db import libpq_of


@dataclass(frozen=True, slots=True)
class Spooled:
    """One device's spool: the highest number given out, rows it still holds, rows it merged or dropped."""

    stream: str
    highest: int
    rows: int
    given_up: int


def read_spools(devices: Path) -> list[Spooled]:
    return [_read(path) for path in sorted(devices.glob("*/spool.db"))]


def _read(path: Path) -> Spooled:
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10) as spool:
        stream = spool.execute("select value from facts where name = 'stream_id'").fetchone()[0]
        highest = spool.execute("select coalesce(max(seq), 0) from sqlite_sequence where name = 'items'").fetchone()[0]
        rows = spool.execute("select count(*) from items").fetchone()[0]
        given_up = spool.execute(
            "select sum(value) from counts where name in ('merged_windows', 'dropped_windows', 'dropped_events')"
        ).fetchone()[0]
    return Spooled(str(stream), int(highest), int(rows), int(given_up or 0))


def read_streams(database_url: str) -> list[dict[str, Any]]:
    """Return what the server holds of each stream: `rows`, different `numbers` among them, and its mark."""
    return asyncio.run(_streams(database_url))


async def _streams(url: str) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(libpq_of(url)[0])
    found = await connection.fetch("""
        with seen as (select device_id, stream_id, seq from telemetry_window
                      union all select device_id, stream_id, seq from telemetry_event)
        select s.device_id, s.stream_id, s.acknowledged_seq, count(seen.seq) as rows,
               count(distinct seen.seq) as numbers, min(seen.seq) as lowest, max(seen.seq) as highest
        from telemetry_stream s left join seen using (device_id, stream_id) group by 1, 2, 3""")
    await connection.close()
    return [dict(row) for row in found]


def twice(streams: Sequence[dict[str, Any]]) -> int:
    """Count rows that the server holds a second time."""
    return sum(stream["rows"] - stream["numbers"] for stream in streams)


def lost(streams: Sequence[dict[str, Any]], spools: Sequence[Spooled]) -> int:
    """Count numbers that empty spools gave out and the server has not; what they merged or dropped too."""
    held = {stream["stream_id"]: stream["numbers"] for stream in streams}
    return sum(spool.highest - held.get(spool.stream, 0) + spool.given_up for spool in spools if spool.highest)
