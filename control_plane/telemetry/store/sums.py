"""Cells, totals and sums by device: added to with each batch, read as they are."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from control_plane.kit.db import Row, Session, driver_fetch, rows
from control_plane.telemetry.domain import AMOUNT_MOST, CellLine, DeviceSum, Place, Tally, bounded, bounded_counts

_SUMMED = ("distance_mm", "duration_ms", "windows")
_MORE = (*_SUMMED, "decisions")
_KEY = ("device_class", "site", "content_digest")


_TYPES = {"width_s": "integer"} | dict.fromkeys((*_KEY, "device_id", "counts"), "text")
_TYPES |= dict.fromkeys(("starts_at", "first_window_at", "first_at", "last_at"), "timestamptz")
_CHOSEN = {"counts": "counts::jsonb", "changed": "pg_current_xact_id()::text::bigint"}


class _Upsert(NamedTuple):
    statement: str
    given: tuple[str, ...]

    def columns(self, lines: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
        return [[line[name] for line in lines] for name in self.given]


def _added(name: str) -> str:
    """Add without going over; written out, for a function of it would be called for every row."""
    most = AMOUNT_MOST
    return f"case when held.{name} > {most} - excluded.{name} then {most} else held.{name} + excluded.{name} end"


def _upsert(first: int, table: str, key: Sequence[str], summed: Sequence[str], rules: Mapping[str, str]) -> _Upsert:
    """Return a statement that adds rows to those that are there; its arguments, from `$first` on, are columns."""
    names = [*key, *summed, "counts", *rules]
    given = tuple(name for name in names if name != "changed")
    source = ", ".join(f"${place}::{_TYPES.get(name, 'bigint')}[]" for place, name in enumerate(given, first))
    added = [f"{name} = {_added(name)}" for name in summed]
    ruled = [f"{name} = {rule}" for name, rule in rules.items()]
    statement = f"""
        insert into {table} as held ({", ".join(names)})
        select {", ".join(_CHOSEN.get(name, name) for name in names)} from unnest({source}) as n ({", ".join(given)})
        on conflict ({", ".join(key)}) do update set
            counts = case when excluded.counts = '{{}}' then held.counts
                          else telemetry_add_counts(held.counts, excluded.counts) end, {", ".join([*added, *ruled])}
    """  # noqa: S608 - tables and columns are named in this module
    return _Upsert(statement, given)


_ENERGY = {
    "energy_mj": f"""case when held.energy_mj is null then excluded.energy_mj
                     when excluded.energy_mj is null then held.energy_mj else {_added("energy_mj")} end"""
}
_CELL_SUMS = _upsert(
    1,
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
_TOTALS = _upsert(1 + len(_CELL_SUMS.given), "telemetry_total", _KEY, _MORE, _ENERGY)
_DEVICE_SUMS = _upsert(
    1 + len(_CELL_SUMS.given) + len(_TOTALS.given),
    "telemetry_device_sum",
    ("device_id", "content_digest", "device_class", "site"),
    _SUMMED,
    {"first_at": "least(held.first_at, excluded.first_at)", "last_at": "greatest(held.last_at, excluded.last_at)"},
)
_MARKS = 1 + len(_CELL_SUMS.given) + len(_TOTALS.given) + len(_DEVICE_SUMS.given)
_ACKNOWLEDGE = f"""
    update telemetry_stream s set acknowledged_seq = n.seq
    from unnest(${_MARKS}::text[], ${_MARKS + 1}::text[], ${_MARKS + 2}::bigint[]) as n (device, stream, seq)
    where s.device_id = n.device and s.stream_id = n.stream
"""  # noqa: S608 - only numbers of arguments are put in
_ADD = f"""
    with marks as ({_ACKNOWLEDGE}), totals as ({_TOTALS.statement}), devices as ({_DEVICE_SUMS.statement})
    {_CELL_SUMS.statement}
"""
_CELLS = """
with mark as materialized (select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as seen)
select mark.seen, c.site, c.device_class, c.content_digest, c.starts_at, c.distance_mm, c.duration_ms, c.windows,
    c.counts::text, c.first_window_at, c.width_s
from mark left join telemetry_cell c on c.device_class = any($1::text[])
    and ($2::text[] is null or c.site = any($2::text[])) and c.starts_at + c.width_s * interval '1 second' > $3
"""
_ALL_CELLS = _CELLS + "and c.starts_at > $3::timestamptz - interval '1 day'"
_CHANGED_CELLS = _CELLS + "and c.changed >= $4"
"""Two statements, each planned for the index that finds its rows; after the mark, columns as those of `CellLine`."""
_COUNTS = 1 + CellLine._fields.index("counts")


def prepared(
    width_s: int,
    cells: Mapping[tuple[Place, int], Tally],
    totals: Mapping[Place, Tally],
    devices: Mapping[tuple[str, Place], Tally],
) -> list[list[Any]]:
    """Return what `add` takes: columns of all three tables, with rows in the one order in which they are locked."""
    cell_lines = [
        _line(place, held)
        | {"starts_at": datetime.fromtimestamp(start_s, UTC), "width_s": width_s, "first_window_at": held.first_at}
        for (place, start_s), held in sorted(cells.items(), key=lambda item: item[0])
    ]
    total_lines = [_line(place, totals[place]) for place in sorted(totals)]
    device_lines = [
        _line(place, held) | {"device_id": device_id, "first_at": held.first_at, "last_at": held.last_at}
        for (device_id, place), held in sorted(devices.items(), key=lambda item: item[0])
    ]
    return [*_CELL_SUMS.columns(cell_lines), *_TOTALS.columns(total_lines), *_DEVICE_SUMS.columns(device_lines)]


NOTHING = prepared(0, {}, {}, {})


async def add(session: Session, columns: Sequence[Sequence[Any]], marks: Mapping[tuple[str, str], int]) -> None:
    """Add to all three and acknowledge, by device and stream; one statement, whose order of tables all have."""
    devices, streams = [device_id for device_id, _ in marks], [stream_id for _, stream_id in marks]
    await driver_fetch(session, _ADD, *columns, devices, streams, list(marks.values()))


def _line(place: Place, held: Tally) -> dict[str, Any]:
    return {
        "device_class": place.device_class,
        "site": place.site,
        "content_digest": place.content_digest,
        "distance_mm": bounded(held.distance_mm),
        "duration_ms": bounded(held.duration_ms),
        "decisions": bounded(held.decisions),
        "energy_mj": None if held.energy_mj is None else bounded(held.energy_mj),
        "windows": held.windows,
        "counts": msgspec.json.encode(bounded_counts(held.counts)).decode() if held.counts else "{}",
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
    chosen = (list(device_classes), None if sites is None else list(sites), since)
    found: Sequence[Mapping[str, Any]] = []
    if changed_after > 0:
        found = await driver_fetch(session, _CHANGED_CELLS, *chosen, changed_after)
    if not found or found[0]["seen"] < changed_after:
        found = await driver_fetch(session, _ALL_CELLS, *chosen)
    lines = [_cell(line) for line in found if line["site"] is not None]
    return lines, int(found[0]["seen"])


def _cell(line: Any) -> CellLine:
    counts = line["counts"]
    counted = msgspec.json.decode(counts, type=dict[str, int]) if counts != "{}" else {}
    return CellLine._make((*line[1:_COUNTS], counted, *line[_COUNTS + 1 :]))


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
    return [DeviceSum._make(line[name] for name in DeviceSum._fields) for line in found]


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
