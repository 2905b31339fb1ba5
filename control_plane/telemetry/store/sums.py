"""Cells, totals and sums by device: added to with each batch, read as they are."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from control_plane.kit.db import Row, Session, driver_fetch, rows
from control_plane.telemetry.domain import CellLine, DeviceSum, Place, Tally, bounded, bounded_counts

_SUMMED = ("distance_mm", "duration_ms", "windows")
_MORE = (*_SUMMED, "decisions")
_KEY = ("device_class", "site", "content_digest")


def _upsert(table: str, key: Sequence[str], summed: Sequence[str], rules: Mapping[str, str]) -> str:
    """Return a statement that adds rows, given as one JSON array, to those that are there."""
    names = [*key, *summed, "counts", *rules]
    added = [f"{name} = telemetry_add(held.{name}, excluded.{name})" for name in summed]
    ruled = [f"{name} = {rule}" for name, rule in rules.items()]
    chosen = ["pg_current_xact_id()::text::bigint" if name == "changed" else name for name in names]
    return f"""
        insert into {table} as held ({", ".join(names)})
        select {", ".join(chosen)} from jsonb_populate_recordset(null::{table}, $1::jsonb)
        on conflict ({", ".join(key)}) do update set
            counts = telemetry_add_counts(held.counts, excluded.counts), {", ".join([*added, *ruled])}
    """  # noqa: S608 - tables and columns are named in this module


_ENERGY = {
    "energy_mj": "coalesce(telemetry_add(held.energy_mj, excluded.energy_mj), held.energy_mj, excluded.energy_mj)"
}
_ADD_CELLS = _upsert(
    "telemetry_cell",
    (*_KEY, "starts_at"),
    _MORE,
    _ENERGY
    | {
        "width_s": "greatest(held.width_s, excluded.width_s)",
        "first_window_at": "least(held.first_window_at, excluded.first_window_at)",
        "changed": "excluded.changed",
    },
)
_ADD_TOTALS = _upsert("telemetry_total", _KEY, _MORE, _ENERGY)
_ADD_DEVICE_SUMS = _upsert(
    "telemetry_device_sum",
    ("device_id", "content_digest", "device_class", "site"),
    _SUMMED,
    {"first_at": "least(held.first_at, excluded.first_at)", "last_at": "greatest(held.last_at, excluded.last_at)"},
)
_CHANGED = """
with mark as materialized (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen)
select mark.seen, c.site, c.device_class, c.content_digest, c.starts_at, c.distance_mm, c.duration_ms, c.windows,
    c.counts, c.first_window_at, c.width_s
from mark left join telemetry_cell c on c.device_class = any(cast(:classes as text[]))
    and (cast(:sites as text[]) is null or c.site = any(cast(:sites as text[])))
    and c.starts_at > cast(:since as timestamptz) - interval '1 day'
    and c.starts_at + c.width_s * interval '1 second' > cast(:since as timestamptz)
    and c.changed >= case when cast(:changed_after as bigint) > mark.seen then 0 else cast(:changed_after as bigint) end
"""


async def add_cells(session: Session, width_s: int, cells: Mapping[tuple[Place, int], Tally]) -> None:
    lines = [
        _line(place, cells[place, start_s])
        | {
            "starts_at": datetime.fromtimestamp(start_s, UTC).isoformat(),
            "width_s": width_s,
            "first_window_at": cells[place, start_s].first_at.isoformat(),
        }
        for place, start_s in sorted(cells)
    ]
    await driver_fetch(session, _ADD_CELLS, json.dumps(lines))


async def add_totals(session: Session, totals: Mapping[Place, Tally]) -> None:
    await driver_fetch(session, _ADD_TOTALS, json.dumps([_line(place, totals[place]) for place in sorted(totals)]))


async def add_device_sums(session: Session, sums: Mapping[tuple[str, Place], Tally]) -> None:
    lines = [
        _line(place, held)
        | {"device_id": device_id, "first_at": held.first_at.isoformat(), "last_at": held.last_at.isoformat()}
        for (device_id, place), held in sorted(sums.items(), key=lambda item: item[0])
    ]
    await driver_fetch(session, _ADD_DEVICE_SUMS, json.dumps(lines))


def _line(place: Place, held: Tally) -> dict[str, Any]:
    return place._asdict() | {
        "distance_mm": bounded(held.distance_mm),
        "duration_ms": bounded(held.duration_ms),
        "decisions": bounded(held.decisions),
        "energy_mj": None if held.energy_mj is None else bounded(held.energy_mj),
        "windows": held.windows,
        "counts": bounded_counts(held.counts),
    }


async def halvings(session: Session) -> int:
    """Return how often the panel's share has been halved."""
    found = await rows(session, "select halvings from telemetry_panel")
    return int(found[0]["halvings"]) if found else 0


async def cells(
    session: Session, device_classes: Sequence[str], sites: Sequence[str] | None, since: datetime, changed_after: int
) -> tuple[list[CellLine], int]:
    """Return cells and the watermark of the very snapshot they were read in.

    Every transaction below the watermark is over and was seen, so nothing that commits later is missed. A watermark
    that is ahead of the server comes from before it was restored from a dump: then everything is given.
    """
    found = await rows(
        session,
        _CHANGED,
        classes=list(device_classes),
        sites=None if sites is None else list(sites),
        since=since,
        changed_after=changed_after,
    )
    lines = [_named(CellLine, line) for line in found if line["site"] is not None]
    return lines, int(found[0]["seen"])


async def device_sums(
    session: Session, device_classes: Sequence[str] | None, sites: Sequence[str] | None, contents: Sequence[str]
) -> list[DeviceSum]:
    found = await rows(
        session,
        f"""select {", ".join(DeviceSum._fields)} from telemetry_device_sum
            where content_digest = any(cast(:contents as text[]))
              and (cast(:classes as text[]) is null or device_class = any(cast(:classes as text[])))
              and (cast(:sites as text[]) is null or site = any(cast(:sites as text[])))
            order by device_id, content_digest, site""",  # noqa: S608 - the columns are DeviceSum's
        contents=list(contents),
        classes=None if device_classes is None else list(device_classes),
        sites=None if sites is None else list(sites),
    )
    return [_named(DeviceSum, line) for line in found]


_Line = TypeVar("_Line", CellLine, DeviceSum)


def _named(kind: type[_Line], line: Row) -> _Line:
    return kind._make(line[name] for name in kind._fields)


async def totals(session: Session, contents: Sequence[str] | None) -> Sequence[Row]:
    """Return each stratum's total of each content, and how many devices of the panel took part."""
    return await rows(
        session,
        """select t.*, (select count(*) from telemetry_device_sum d where d.content_digest = t.content_digest
                        and d.device_class = t.device_class and d.site = t.site) as devices
           from telemetry_total t
           where cast(:contents as text[]) is null or content_digest = any(cast(:contents as text[]))
           order by content_digest, site, device_class""",
        contents=None if contents is None else list(contents),
    )
