"""Partitions come and go, cells grow coarser, the panel shrinks; totals stay, and what comes in is not held up."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from control_plane.kit import clock
from control_plane.kit.db import execute
from control_plane.telemetry import service
from control_plane.telemetry.domain import CellLine, halvings_needed, in_panel
from control_plane.telemetry.reconcile import Upkeep
from control_plane.telemetry.service import Retention
from tests.support.device import CLASS, CONTENT, Device, enrol, event, window
from tests.support.rows import count, run, select
from tests.support.server import Server

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


async def maintain(server: Server, now: datetime, **rules: Any) -> bool:
    async with server.context.database.transaction() as session:
        return await service.maintain(session, now, Retention(**rules))


async def cells(server: Server, changed_after: int = 0) -> tuple[list[CellLine], int]:
    async with server.context.database.transaction() as session:
        return await service.cells(session, [CLASS], None, LONG_AGO, changed_after)


async def names(server: Server, table: str) -> set[str]:
    query = "select relname from pg_class where relkind = 'r' and relname like :like"
    return {row["relname"] for row in await select(server, query, like=f"{table}_2%")}


def later(days: float) -> datetime:
    return clock.now() + timedelta(days=days)


async def test_partitions_are_made_ahead_and_dropped_when_their_time_is_over(server: Server, device: Device) -> None:
    await device.telemetry(windows=[window(0)], events=[event(1)])
    now = clock.now()
    await maintain(server, now)
    today = f"telemetry_window_{now:%Y_%m_%d}"
    ahead = {f"telemetry_window_{now + timedelta(days=n):%Y_%m_%d}" for n in range(14)}
    assert ahead <= await names(server, "telemetry_window")
    await maintain(server, now + timedelta(days=90))
    assert today in await names(server, "telemetry_window")
    assert await count(server, "telemetry_window") == 1
    await maintain(server, now + timedelta(days=91))
    assert today not in await names(server, "telemetry_window")
    assert (await count(server, "telemetry_window"), await count(server, "telemetry_event")) == (0, 0)


async def test_a_retention_below_the_floor_needs_the_floor_lowered_too(server: Server, device: Device) -> None:
    await device.telemetry(windows=[window(0)])
    await maintain(server, later(29), windows_days=2)
    assert await count(server, "telemetry_window") == 1
    await maintain(server, later(29), windows_days=2, windows_floor_days=1)
    assert await count(server, "telemetry_window") == 0


async def test_months_made_by_an_earlier_version_stay_and_go_as_a_whole(server: Server) -> None:
    for table in ("telemetry_window", "telemetry_event"):
        bounds = "for values from ('2031-02-01 00:00+00') to ('2031-03-01 00:00+00')"
        await run(server, f"create table {table}_2031_02 partition of {table} {bounds}")
    await maintain(server, datetime(2031, 2, 20, 12, tzinfo=UTC))
    made = await names(server, "telemetry_window")
    assert "telemetry_window_2031_02_21" not in made
    assert {"telemetry_window_2031_02", "telemetry_window_2031_03_01"} <= made
    await maintain(server, datetime(2031, 5, 29, tzinfo=UTC))
    assert "telemetry_window_2031_02" in await names(server, "telemetry_window")
    await maintain(server, datetime(2031, 5, 31, tzinfo=UTC))
    assert "telemetry_window_2031_02" not in await names(server, "telemetry_window")


async def test_rows_in_the_default_partition_go_as_well(server: Server, device: Device) -> None:
    await device.telemetry(windows=[window(0)])
    await run(server, "update telemetry_window set received_at = '2020-05-05T00:00:00Z'")
    await maintain(server, clock.now())
    assert await count(server, "telemetry_window") == 0


async def test_cells_become_hours_after_a_month_and_totals_stay(server: Server, device: Device) -> None:
    hour = clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)
    made = []
    for seq in range(40):
        at = (hour + timedelta(minutes=4 * seq)).isoformat()
        counts = {"collision": seq % 2, "stuck": 1}
        made.append(window(seq, distance_m=seq / 3) | {"started_at": at, "ended_at": at, "counts": counts})
    await device.telemetry(windows=made)
    before, watermark = await cells(server)
    await maintain(server, hour + timedelta(days=31, hours=-1))
    assert (await cells(server))[0] == before
    await maintain(server, hour + timedelta(days=31, hours=6))
    after = (await cells(server))[0]
    assert (len(before), len(after)) == (40, 3)
    assert {c.width_s for c in after} == {3600}
    assert sums_of(after) == sums_of(before)
    assert (await cells(server, watermark))[0] == []  # nothing has changed for whoever had read them
    await maintain(server, hour + timedelta(days=31, hours=6))
    assert (await cells(server))[0] == after
    await maintain(server, hour + timedelta(days=402))
    assert (await cells(server))[0] == []
    [total] = await server.ok("GET", "/exposure")
    assert (total["windows"], total["counts"]) == (40, {"collision": 20, "stuck": 40})


def sums_of(found: list[CellLine]) -> tuple[Any, ...]:
    counts: dict[str, int] = {}
    for cell in found:
        for kind, n in cell.counts.items():
            counts[kind] = counts.get(kind, 0) + n
    amounts = [sum(getattr(c, name) for c in found) for name in ("distance_mm", "duration_ms", "windows")]
    return (*amounts, counts, min(c.first_window_at for c in found))


async def test_the_panel_shrinks_with_the_fleet_and_never_grows(server: Server) -> None:
    devices = [await enrol(server) for _ in range(12)]
    for device in devices:
        await device.telemetry(windows=[window(0)])
    await maintain(server, clock.now(), panel=4)
    kept = {row["device_id"] for row in await select(server, "select device_id from telemetry_device_sum")}
    assert kept == {device.id for device in devices if in_panel(device.id, 2)}
    for device in devices:
        await device.telemetry(windows=[window(1)])
    after = await select(server, "select device_id, windows from telemetry_device_sum")
    assert {(row["device_id"], row["windows"]) for row in after} == {(device_id, 2) for device_id in kept}
    await maintain(server, clock.now(), panel=1000)
    assert await select(server, "select halvings from telemetry_panel") == [{"halvings": 2}]
    async with server.context.database.transaction() as session:
        rate = await service.rate(session, CONTENT, ["collision"], "distance_m")
        [line] = await service.sums(session)
    assert (rate.exposure, rate.devices, line.devices) == (2400.0, 4 * len(kept), 4 * len(kept))


def test_how_often_a_fleet_is_halved() -> None:
    assert [halvings_needed(n, 20_000) for n in (0, 1, 20_000, 20_001, 40_000, 40_001, 1_000_000)] == [
        0, 0, 0, 1, 1, 2, 6,
    ]  # fmt: skip
    assert all(in_panel(f"dev_{n}", 0) for n in range(50))
    in_two = {n for n in range(4000) if in_panel(f"dev_{n}", 2)}
    assert 850 < len(in_two) < 1150
    assert {n for n in in_two if in_panel(f"dev_{n}", 3)} == {n for n in range(4000) if in_panel(f"dev_{n}", 3)}


async def test_a_long_reader_holds_up_neither_upkeep_nor_what_comes_in(server: Server, device: Device) -> None:
    await device.telemetry(windows=[window(0)])
    async with server.context.database.transaction() as session:
        await execute(session, "select count(*) from telemetry_window")  # and holds its lock on every partition
        keeping = asyncio.create_task(maintain(server, later(91)))
        answers = []
        while not keeping.done():
            answers.append(await asyncio.wait_for(device.telemetry(windows=[window(len(answers) + 1)]), 20))
            await asyncio.sleep(0.02)
        assert await keeping
        assert {answer.status_code for answer in answers} == {200}
    assert await count(server, "telemetry_window") == 1 + len(answers)
    await maintain(server, later(91))
    assert await count(server, "telemetry_window") == 0


async def test_one_worker_does_it_and_once_an_hour(server: Server) -> None:
    async with server.context.database.transaction() as session:
        assert await service.maintain(session, clock.now())
        assert not await maintain(server, clock.now())
    upkeep = Upkeep(server.context)
    assert [await upkeep.tick() for _ in range(3)] == [1, 0, 0]
