"""A fleet that is only made up: beside no real one, on this machine, heard like any other, and gone when asked."""

import asyncio
from pathlib import Path

import pytest

from control_plane.cli.rehearsal import must_be_here
from control_plane.cli.simulated_fleet import Plan, make, shares
from control_plane.cli.simulated_load import Tally, by_socket, drive
from control_plane.fleet import service as fleet
from control_plane.kit.errors import Invalid, Refused
from tests.support.device import enrol
from tests.support.quiet import proxied
from tests.support.rows import count, select
from tests.support.server import Server

PLAN = Plan(50, 10, ["cart", "arm"], ["north", "south"])


async def made(server: Server, database_url: str, plan: Plan = PLAN) -> list[int]:
    done: list[int] = []
    home = server.context.settings.home
    voices = await make(database_url, home / "keys" / "device-ca.pem", "fleetloop", plan, done.append)
    assert len(voices) == plan.speakers
    return done


async def test_devices_are_made_labelled_counted_and_taken_out(server: Server, database_url: str) -> None:
    assert await made(server, database_url) == [50]
    await made(server, database_url)  # again is harmless
    listed = await server.ok("GET", "/devices?limit=100")
    assert len(listed["items"]) == 50
    assert all(item["labels"] == {"simulated": True} for item in listed["items"])
    async with server.context.database.transaction() as session:
        found = await fleet.strata(session, ["cart", "arm"], None)
        assert sum(one.devices for one in found) == 50
        assert {(one.site, one.device_class) for one in found} == {(s, c) for s in PLAN.sites for c in PLAN.classes}
        await fleet.must_be_only_simulated(session)
        assert await fleet.remove_simulated(session) == 50
    assert await count(server, "fleet_device") == 0
    actions = {entry["action"] for entry in (await server.ok("GET", "/audit?subject=simulate"))["items"]}
    assert actions == {"device.simulate", "device.simulate_remove"}


async def test_real_devices_are_not_mixed_with_made_up_ones_and_stay(server: Server, database_url: str) -> None:
    real = await enrol(server)
    await made(server, database_url)
    async with server.context.database.transaction() as session:
        with pytest.raises(Refused, match="1 devices that are not simulated"):
            await fleet.must_be_only_simulated(session)
        await fleet.remove_simulated(session)
    assert await select(server, "select id from fleet_device") == [{"id": real.id}]


async def test_speakers_check_in_and_report_at_the_rate_asked_for(
    server: Server, database_url: str, tmp_path: Path
) -> None:
    home = server.context.settings.home
    async with proxied(server, tmp_path):
        authority = home / "keys" / "device-ca.pem"
        voices = await make(database_url, authority, "fleetloop", PLAN, lambda _: None)
        found = shares(voices, 2, 0.5, proxied=True)
        assert sorted(len(each) for each in found) == [5, 10]  # ten that check in, and five of them report
        connect = by_socket(tmp_path / "proxied.sock")
        tally: Tally = await asyncio.to_thread(drive, connect, found, 2.0, rate_per_s=30.0)
    assert (tally.bad, tally.lost, tally.first_bad) == (0, 0, "")
    assert 20 <= tally.done + tally.windows <= 65
    assert tally.windows == await count(server, "telemetry_window") > 0
    await server.app.state.quiet.flush()
    heard = await select(server, "select count(*) as n from fleet_device where last_seen_at is not null")
    assert heard == [{"n": 10}]


@pytest.mark.parametrize("host", ["10.0.0.1", "example.com", "0.0.0.0", "fe80::1"])  # noqa: S104 - refused
def test_another_machine_is_not_loaded(host: str) -> None:
    with pytest.raises(Invalid, match="stay on this machine"):
        must_be_here(host, "the server")
    for here in (None, "localhost", "127.0.0.1", "127.8.0.1", "::1"):
        must_be_here(here, "the server")
