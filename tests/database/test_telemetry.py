"""Telemetry is taken exactly once, whatever is sent again, at once, or out of order."""

import asyncio
from datetime import UTC, datetime

import pytest
from sqlalchemy.exc import DBAPIError

from control_plane.telemetry import service
from tests.support.device import Device, enrol, event, window
from tests.support.rows import count, run, select
from tests.support.server import Server


async def test_a_batch_sent_again_adds_nothing(server: Server, device: Device) -> None:
    batch = {"windows": [window(0), window(2, collision=1)], "events": [event(1), event(3)]}
    first, second = [(await device.telemetry(**batch)).json() for _ in range(2)]
    assert (first["acknowledged_seq"], first["accepted"], first["duplicates"]) == (3, 4, 0)
    assert (second["acknowledged_seq"], second["accepted"], second["duplicates"]) == (3, 0, 4)
    assert (await count(server, "telemetry_window"), await count(server, "telemetry_event")) == (2, 2)


async def test_an_overlapping_batch_adds_only_what_is_new(server: Server, device: Device) -> None:
    windows = [window(seq) for seq in range(10)]
    await device.telemetry(windows=windows[:6])
    reply = (await device.telemetry(windows=windows[3:])).json()
    assert (reply["acknowledged_seq"], reply["accepted"], reply["duplicates"]) == (9, 4, 3)
    late = (await device.telemetry(windows=windows[1:2])).json()
    assert (late["acknowledged_seq"], late["accepted"]) == (9, 0)
    kept = await select(server, "select seq from telemetry_window order by seq")
    assert [row["seq"] for row in kept] == list(range(10))


async def test_the_same_batch_on_many_connections_counts_once(server: Server, device: Device) -> None:
    batch = {"windows": [window(seq, near_miss=1) for seq in range(50)], "events": [event(50)]}
    replies = await asyncio.gather(*(device.telemetry(**batch) for _ in range(6)))
    assert {reply.status_code for reply in replies} == {200}
    assert sum(reply.json()["accepted"] for reply in replies) == 51
    assert (await count(server, "telemetry_window"), await count(server, "telemetry_event")) == (50, 1)


async def test_streams_and_devices_number_for_themselves(server: Server, device: Device) -> None:
    other = await enrol(server)
    for who, stream in ((device, "s1"), (device, "s2"), (other, "s1")):
        reply = (await who.telemetry(windows=[window(0)], stream=stream)).json()
        assert reply["accepted"] == 1, stream
    assert await count(server, "telemetry_window") == 3


async def test_a_batch_out_of_order_changes_nothing(server: Server, device: Device) -> None:
    for windows, events in (([1, 0], []), ([0, 0], []), ([0], [2, 1])):
        batch = {"windows": [window(seq) for seq in windows], "events": [event(seq) for seq in events]}
        answer = await device.telemetry(**batch)
        assert (answer.status_code, answer.json()["code"]) == (422, "out_of_order")
    assert await count(server, "telemetry_stream") == 0
    assert (await device.telemetry(windows=[window(0)])).json()["accepted"] == 1


async def test_an_empty_batch_acknowledges_what_is_known(device: Device) -> None:
    assert (await device.telemetry()).json()["acknowledged_seq"] == -1
    await device.telemetry(windows=[window(4)])
    assert (await device.telemetry()).json()["acknowledged_seq"] == 4


async def test_too_many_items_are_refused_whole(server: Server, device: Device) -> None:
    answer = await device.telemetry(windows=[window(seq) for seq in range(1001)])
    assert answer.status_code == 422
    assert await count(server, "telemetry_window") == 0


async def test_what_fails_in_the_middle_leaves_nothing(server: Server, device: Device) -> None:
    """The windows are copied before the events; when the events fail, the windows must go too."""
    await run(server, "alter table telemetry_event add constraint no_collisions check (kind <> 'collision')")
    answer = await device.telemetry(windows=[window(0)], events=[event(1)])
    assert answer.status_code == 500
    assert await count(server, "telemetry_window") == 0
    await run(server, "alter table telemetry_event drop constraint no_collisions")
    assert (await device.telemetry(windows=[window(0)], events=[event(1)])).json()["accepted"] == 2


async def test_rows_go_to_the_partition_of_their_day(server: Server, device: Device) -> None:
    await device.telemetry(windows=[window(0)], events=[event(1)])
    day = f"{datetime.now(UTC):%Y_%m_%d}"
    placed = await select(server, "select tableoid::regclass::text as name from telemetry_window")
    assert placed == [{"name": f"telemetry_window_{day}"}]
    async with server.context.database.transaction() as session:
        await service.ensure_partitions(session, datetime.now(UTC))  # again changes nothing
        await service.ensure_partitions(session, datetime(2031, 11, 29, 23, tzinfo=UTC))
    made = "select relname from pg_class where relkind = 'r' and relname like '%dow_203%' order by 1"
    names = await select(server, made)
    assert [row["relname"] for row in names] == [
        f"telemetry_window_{d}" for d in ("2031_11_29", "2031_11_30", "2031_12_01")
    ]


async def test_a_server_that_ran_out_of_partitions_starts_again(server: Server, device: Device) -> None:
    """Rows of a day without a partition lie in the default one; making that day's must not fail the start."""
    await device.telemetry(windows=[window(0)], events=[event(1)])
    await run(server, "update telemetry_window set received_at = '2030-05-05T00:00:00Z'")
    await run(server, "update telemetry_event set received_at = '2030-05-05T00:00:00Z'")
    async with server.context.database.transaction() as session:
        await service.ensure_partitions(session, datetime(2030, 5, 5, 20, tzinfo=UTC))
    assert (await count(server, "telemetry_window"), await count(server, "telemetry_event")) == (1, 1)
    made = await select(server, "select 1 from pg_class where relname = 'telemetry_window_2030_05_06'")
    assert len(made) == 1


async def test_sums_and_rates_add_up(server: Server, device: Device) -> None:
    other = await enrol(server, site="south")
    await device.telemetry(windows=[window(0, collision=1, stuck=4), window(1, near_miss=2)], events=[event(2)])
    await other.telemetry(windows=[window(0, distance_m=300.0)])
    lines = {line["site"]: line for line in await server.ok("GET", "/exposure")}
    assert lines["north"]["counts"] == {"collision": 1, "near_miss": 2, "stuck": 4}
    assert (lines["north"]["distance_m"], lines["south"]["distance_m"]) == (200.0, 300.0)
    assert (lines["north"]["windows"], lines["north"]["devices"]) == (2, 1)


async def test_events_are_listed_once_each_in_both_directions(server: Server, device: Device) -> None:
    await device.telemetry(events=[event(seq, kind="stuck" if seq % 2 else "collision") for seq in range(7)])
    for query, order in (("", -1), ("&since_number=0", 1)):
        seen, after = [], ""
        while True:
            page = await server.ok("GET", f"/events?limit=3{query}{after}")
            seen += [item["number"] for item in page["items"]]
            if page["next"] is None:
                break
            after = f"&after={page['next']}"
        assert seen == sorted(set(seen), reverse=order < 0)
        assert len(seen) == 7
    assert len((await server.ok("GET", "/events?kind=stuck"))["items"]) == 3


async def test_a_duplicate_row_is_impossible_even_past_the_stream(server: Server, device: Device) -> None:
    await device.telemetry(windows=[window(0)])
    columns = "device_id, stream_id, seq, received_at, site, device_class, content_digest, started_at, ended_at, "
    columns += "distance_m, duration_s, decisions, counts, latency_p50_ms, latency_p99_ms"
    with pytest.raises(DBAPIError):
        await run(server, f"insert into telemetry_window ({columns}) select {columns} from telemetry_window")  # noqa: S608
