"""The fleet by stratum: counted by the database as devices come, change and go, without looking at each of them."""

from collections.abc import Sequence

from control_plane.fleet import service as fleet
from tests.support.device import CLASS, enrol
from tests.support.rows import run, select
from tests.support.server import Server

ADD = """
    insert into fleet_device (id, serial, public_key_pem, key_sha256, device_class, site, labels, state, agent_version,
        boots, last_seq, counter_floor, platform, spool)
    select 'd' || n, 's' || n, '', 'k' || n, :class, 'site-' || n % 3, '{}', 'active', '0', '[]', -1, 0, '{}', '{}'
    from generate_series(cast(:first as int), cast(:last as int)) as n
"""


async def strata(
    server: Server, classes: Sequence[str] = (CLASS, "van"), sites: Sequence[str] | None = None
) -> dict[tuple[str, str], int]:
    async with server.context.database.transaction() as session:
        found = await fleet.strata(session, classes, sites)
    return {(one.site, one.device_class): one.devices for one in found}


async def is_right(server: Server) -> bool:
    counted = "select device_class, site, count(*) as n from fleet_device where state = 'active' group by 1, 2"
    rows = await select(server, counted)
    return await strata(server) == {(one["site"], one["device_class"]): one["n"] for one in rows}


async def test_strata_follow_the_fleet(server: Server) -> None:
    assert await strata(server) == {}
    first = await enrol(server, site="north")
    await enrol(server, site="north")
    await enrol(server, site="south")
    assert await strata(server) == {("north", CLASS): 2, ("south", CLASS): 1}
    assert await strata(server, [CLASS], ["south", "nowhere"]) == {("south", CLASS): 1}
    assert await strata(server, ["van"]) == {}
    for state, left in (("quarantined", 1), ("retired", 1), ("active", 2)):
        await server.ok("PATCH", f"/devices/{first.id}", json={"state": state, "reason": "test"})
        assert (await strata(server))["north", CLASS] == left
    await first.check_in()
    assert await is_right(server)


async def test_statements_over_many_devices_count_right(server: Server) -> None:
    for name in (CLASS, "van"):
        await server.ok("PUT", f"/device-classes/{name}", json={"title": name})
    await run(server, ADD, **{"class": CLASS, "first": 1, "last": 90})
    await run(server, ADD, **{"class": "van", "first": 91, "last": 120})
    sizes = {CLASS: 30, "van": 10}
    assert await strata(server) == {(f"site-{n}", kind): sizes[kind] for kind in sizes for n in range(3)}
    for change in (
        "update fleet_device set site = 'site-0' where site = 'site-1' and device_class = 'van'",
        "update fleet_device set state = 'retired' where last_seq = -1 and site = 'site-2'",
        "update fleet_device set device_class = 'van', state = 'active' where site = 'site-2'",
        "update fleet_device set last_seq = last_seq + 1",
        "delete from fleet_device where site = 'site-0'",
    ):
        assert await run(server, change) > 0
        assert await is_right(server), change
    await run(server, "truncate fleet_device cascade")
    assert await strata(server) == {}


async def test_members_of_names_the_devices_of_some_strata(server: Server) -> None:
    north, south = await enrol(server, site="north"), await enrol(server, site="south")
    gone = await enrol(server, site="south")
    await server.ok("PATCH", f"/devices/{gone.id}", json={"state": "retired", "reason": "test"})
    async with server.context.database.transaction() as session:
        both = await fleet.members_of(session, [("north", CLASS), ("south", CLASS)])
        one = await fleet.members_of(session, [("south", CLASS), ("south", "van")])
        none = await fleet.members_of(session, [])
    assert {member.id for member in both} == {north.id, south.id}
    assert [(member.id, member.site, member.device_class) for member in one] == [(south.id, "south", CLASS)]
    assert none == []
