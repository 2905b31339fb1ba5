"""A made-up fleet of which every kind of device is there: versions, phases, reasons, troubles, spread evenly."""

from control_plane.fleet import service as fleet
from control_plane.kit.db import Database, Session, execute

CLASSES = ("arm", "cart")
CONTENTS = ("a" * 64, "b" * 64, "c" * 64)
AT_ONCE = 50_000
VARY = """
update fleet_device d set last_seen_at = now() - (n % 300) * interval '1 second',
    active_content = case when n % 97 = 0 then null else repeat(substr('aaabbac', 1 + (n * 7919 % 7)::int, 1), 64) end,
    deployment = case
        when n * 104729 % 1000 < 900 then '{"phase": "committed", "reason": null, "detail": ""}'
        when n * 104729 % 1000 < 940 then jsonb_build_object('phase', 'armed', 'detail', '', 'reason',
            (array['moving', 'waiting_site', 'waiting_safe_state', 'order_expired'])[1 + n % 4])
        when n * 104729 % 1000 < 980 then '{"phase": "downloading", "reason": null, "detail": "3 of 4 files"}'
        when n * 104729 % 1000 < 990 then '{"phase": "reverted", "reason": "unhealthy", "detail": "p99 was 31 ms"}'
        else '{"phase": "refused", "reason": "not_qualified", "detail": "golden vectors differ"}' end,
    state = case when n % 211 = 5 then 'quarantined' when n % 307 = 7 then 'retired' else 'active' end
from generate_series(cast(:first as bigint), cast(:last as bigint)) as n
where d.id = 'sim_' || lpad(n::text, 8, '0')
"""


async def fill(database: Database, devices: int, sites: int) -> None:
    """Add devices, some of every kind; counts are folded on the way, as the worker does."""
    places = [f"site-{number:02d}" for number in range(sites)]
    for first in range(0, devices, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, devices))
        async with database.transaction() as session:
            await fleet.add_simulated(session, numbers, [], CLASSES, places)
        await vary(database, numbers)


async def vary(database: Database, numbers: range) -> None:
    async with database.transaction() as session:
        await execute(session, VARY, first=numbers.start, last=numbers.stop - 1)
    async with database.transaction() as session:
        await fleet.fold(session)


async def fall_silent(session: Session, every: int) -> None:
    """Let every so manieth device not have been heard of for an hour."""
    query = "update fleet_device set last_seen_at = now() - interval '1 hour' where right(id, 4)::int % :every = 0"
    await execute(session, query, every=every)
