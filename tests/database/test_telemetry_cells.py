"""Cells hold what came in, whatever the order; a reader that asks for changes misses none."""

import asyncio
import os
import random
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from control_plane.kit.db import Session, execute
from control_plane.telemetry import service
from control_plane.telemetry.domain import CellLine
from tests.support.device import CLASS, CONTENT, Device, enrol, window
from tests.support.rows import count, run, select
from tests.support.server import Server

ROOT = Path(__file__).parents[2]
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
OTHER = "d" * 64


async def cells(server: Server, changed_after: int = 0, since: datetime = LONG_AGO) -> tuple[list[CellLine], int]:
    async with server.context.database.transaction() as session:
        return await service.cells(session, [CLASS], None, since, changed_after)


def at(seq: int, moment: datetime, **changes: Any) -> dict[str, Any]:
    times = {"started_at": (moment - timedelta(seconds=10)).isoformat(), "ended_at": moment.isoformat()}
    return window(seq) | times | changes


def minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def plain(found: list[CellLine]) -> dict[Any, Any]:
    return {(c.site, c.content_digest, c.starts_at): c for c in found}


async def test_windows_count_in_the_cell_of_the_time_they_ended(server: Server, device: Device) -> None:
    base = minute(datetime.now(UTC)) - timedelta(hours=1)
    await device.telemetry(
        windows=[
            at(0, base, distance_m=1.0004, counts={"collision": 1}),
            at(1, base + timedelta(seconds=59), distance_m=2.0, counts={"collision": 2, "stuck": 1}),
            at(2, base + timedelta(seconds=60), distance_m=4.0),
            at(3, base, distance_m=8.0, content_digest=OTHER),
        ]
    )
    found = plain((await cells(server))[0])
    first = found["north", CONTENT, base]
    assert (first.distance_mm, first.duration_ms, first.windows) == (3000, 20_000, 2)
    assert (first.counts, first.first_window_at, first.width_s) == ({"collision": 3, "stuck": 1}, base, 60)
    assert found["north", CONTENT, base + timedelta(minutes=1)].distance_mm == 4000
    assert found["north", OTHER, base].distance_mm == 8000
    assert len(found) == 3
    assert len((await cells(server, since=base + timedelta(seconds=60)))[0]) == 1


async def test_any_order_of_arrival_with_duplicates_gives_the_same_cells(server: Server) -> None:
    """Two fleets report the same; one in order and once, the other shuffled, twice and at the same time."""
    base = minute(datetime.now(UTC)) - timedelta(hours=3)
    dice = random.Random(5)
    rows = [
        at(0, base + timedelta(seconds=7 * n), distance_m=dice.random() * 1e5 / 3, counts={"stuck": n % 3})
        for n in range(60)
    ]
    orderly, other = await enrol(server), [await enrol(server, site="south") for _ in range(3)]
    for n, row in enumerate(rows):
        assert (await orderly.telemetry(windows=[row | {"seq": n}])).status_code == 200
    shuffled = dice.sample(rows, len(rows))
    batches = [(other[place], [row | {"seq": n} for n, row in enumerate(shuffled[place::3])]) for place in range(3)]
    await asyncio.gather(*(who.telemetry(windows=windows) for who, windows in batches for _ in range(2)))
    found = (await cells(server))[0]
    north = {c.starts_at: c._replace(site="") for c in found if c.site == "north"}
    assert north == {c.starts_at: c._replace(site="") for c in found if c.site == "south"}
    assert sum(c.windows for c in north.values()) == 60


async def test_clocks_that_are_ahead_or_long_behind(server: Server, device: Device) -> None:
    now = datetime.now(UTC)
    await device.telemetry(windows=[at(0, now + timedelta(days=400)), at(1, now - timedelta(days=31)), at(2, now)])
    found = (await cells(server))[0]
    assert sum(c.windows for c in found) == 2
    assert all(now - timedelta(minutes=2) < c.starts_at <= now + timedelta(minutes=2) for c in found)
    assert await count(server, "telemetry_window") == 3
    [line] = await server.ok("GET", "/exposure")
    assert line["windows"] == 3


async def test_a_transaction_that_commits_late_is_not_missed(server: Server, device: Device) -> None:
    """It writes first and commits last; a reader that went by the newest change it saw would never see it."""
    base = minute(datetime.now(UTC)) - timedelta(hours=1)
    database = server.context.database
    late = CellLine("late", CLASS, CONTENT, base, 1, 1, 1, {}, base, 60)
    async with database.transaction() as session:
        await put_cell(session, late)
        await device.telemetry(windows=[at(0, base)])
        seen, watermark = await cells(server)
        assert [c.site for c in seen] == ["north"]
    again, later = await cells(server, watermark)
    assert {c.site for c in again} == {"late", "north"}
    assert (await cells(server, later))[0] == []
    await device.telemetry(windows=[at(1, base)])
    [changed] = (await cells(server, later))[0]
    assert (changed.site, changed.windows, changed.distance_mm) == ("north", 2, 200_000)


async def put_cell(session: Session, line: CellLine) -> None:
    await execute(
        session,
        """insert into telemetry_cell (device_class, site, content_digest, starts_at, width_s, first_window_at,
               distance_mm, duration_ms, decisions, windows, counts, changed)
           values (:class, :site, :content, :at, 60, :at, 1, 1, 1, 1, '{}', pg_current_xact_id()::text::bigint)""",
        **{"class": line.device_class, "site": line.site, "content": line.content_digest, "at": line.starts_at},
    )


async def test_a_watermark_from_before_a_restored_dump_gives_everything(server: Server, device: Device) -> None:
    await device.telemetry(windows=[window(0)])
    assert len((await cells(server, 2**60))[0]) == 1


async def test_a_reader_asks_for_its_classes_and_sites(server: Server, device: Device) -> None:
    await device.telemetry(windows=[window(0)])
    async with server.context.database.transaction() as session:
        for classes, sites, n in (([CLASS], ["north"], 1), ([CLASS], ["south"], 0), (["truck"], None, 0), ([], [], 0)):
            found, watermark = await service.cells(session, classes, sites, LONG_AGO)
            assert (len(found), watermark > 0) == (n, True)


async def test_another_cell_width_keeps_totals_and_reaches_as_far_as_the_wider_one(
    server: Server, device: Device
) -> None:
    base = minute(datetime.now(UTC)) - timedelta(hours=1)
    await device.telemetry(windows=[at(0, base + timedelta(seconds=50))])
    server.app.state.intake = service.Intake(server.context.database, 5)
    await device.telemetry(windows=[at(1, base + timedelta(seconds=1)), at(2, base + timedelta(seconds=31))])
    found = {c.starts_at: c for c in (await cells(server, since=base + timedelta(seconds=40)))[0]}
    assert {start: (c.windows, c.width_s) for start, c in found.items()} == {base: (2, 60)}
    assert sum(c.windows for c in (await cells(server))[0]) == 3


async def test_nonsense_from_one_device_does_not_stop_its_neighbours(server: Server, device: Device) -> None:
    now = datetime.now(UTC)
    other = await enrol(server)
    most = [at(seq, now, distance_m=1e12, counts={f"k{seq}_{n}": 10**9 for n in range(32)}) for seq in range(300)]
    full = 9 * 10**18
    assert (await device.telemetry(windows=most)).status_code == 200
    await run(server, "update telemetry_cell set distance_mm = :full", full=full)
    await run(server, "update telemetry_total set distance_mm = :full", full=full)
    assert (await other.telemetry(windows=[at(0, now)])).status_code == 200
    [cell] = (await cells(server))[0]
    assert (cell.distance_mm, cell.windows, len(cell.counts)) == (full, 301, 200)


async def test_device_sums_follow_each_device_and_content(server: Server, device: Device) -> None:
    other = await enrol(server, site="south")
    await device.telemetry(windows=[window(0, stuck=1), window(1, content=OTHER)])
    await device.telemetry(windows=[window(2, distance_m=0.5, stuck=2, collision=1)])
    await other.telemetry(windows=[window(0)])
    async with server.context.database.transaction() as session:
        found = await service.device_sums(session, [CLASS], None, [CONTENT])
        assert await service.device_sums(session, ["truck"], None, [CONTENT]) == []
        south = await service.device_sums(session, [CLASS], ["south"], [CONTENT, OTHER])
    by_device = {line.device_id: line for line in found}
    mine = by_device[device.id]
    assert (mine.distance_mm, mine.duration_ms, mine.windows) == (100_500, 20_000, 2)
    assert mine.counts == {"stuck": 3, "collision": 1}
    assert mine.first_at < mine.last_at
    assert [line.device_id for line in south] == [other.id]


async def test_a_server_killed_in_the_middle_leaves_neither_rows_nor_cells(server: Server, device: Device) -> None:
    """A process dies by SIGKILL after it has written windows and cells, and before it commits."""
    url = str(server.context.settings.database_url)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.dying_intake", url, device.id, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    said = await asyncio.wait_for(process.stdout.readline(), 60)
    assert said == b"written\n"
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    for table in ("telemetry_window", "telemetry_cell", "telemetry_total", "telemetry_device_sum", "telemetry_stream"):
        assert await count(server, table) == 0, table
    assert (await device.telemetry(windows=[window(0)], stream="s1")).json()["accepted"] == 1
    assert await select(server, "select sum(windows)::int as n from telemetry_cell") == [{"n": 1}]
