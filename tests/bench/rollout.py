"""What a rollout over a million devices costs: create, start, widen, look, halt.

A million active devices in 300 strata (100 sites, 3 classes) lie in an embedded PostgreSQL; their champion has driven
for a week, in cells. A release is made, started and widened through the API and the reconciler as they are; the rollout
is then made a week old. Between looks, 300 strata report new exposure, and a tenth of the fleet has the release. Bounds
are those of the design: a second to create and start, and to widen; 50 ms a look (the first look of a worker reads the
whole week and has no bound). `ratio` is bound / seconds, so 1 or more keeps to it; beside it stands the same with a
thousand devices in as many strata, which says whether the cost is that of strata.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

from control_plane.kit.embedded import EmbeddedPostgres
from control_plane.kit.roles import Role
from control_plane.migrations.upgrade import upgrade
from control_plane.rollout.reconcile import Keeper
from control_plane.telemetry.reconcile import Upkeep
from tests.bench.figure import Figure, say
from tests.support.registry import register
from tests.support.rows import run, select
from tests.support.server import Server, open_server

SITES, CLASSES = 100, ("cart", "lift", "cart-xl")
LOOKS = 15
WEEK_H = 168
BOUND_S, LOOK_BOUND_S = 1.0, 0.05
PLAN = {
    "stages": [
        {"fraction": 0.1, "max_exposure": 1e12, "must_prove": False},
        {"fraction": 0.5, "max_exposure": 1e12, "must_prove": False},
        {"fraction": 1.0, "must_prove": False},
    ],
    "gravest": "excess",
    "settle_share": 0.9,
    "returns": [1.0],
}
DEVICES = """
insert into fleet_device (id, serial, public_key_pem, key_sha256, device_class, site, labels, state, agent_version,
    boots, last_seq, boot_ends, counter_floor, platform, spool, last_seen_at, active_content)
select 'dev_' || lpad(n::text, 8, '0'), 'sn-' || n, '', encode(sha256(n::text::bytea), 'hex'),
    (:classes)[1 + n / 100 % 3], 'site-' || lpad((n % 100)::text, 3, '0'), '{}', 'active', '1',
    '["b"]', 0, '{}', 0, '{}', '{}', now(), :content
from generate_series(0, cast(:devices as int) - 1) n
"""
CELLS = """
insert into telemetry_cell (device_class, site, content_digest, starts_at, distance_mm, duration_ms, decisions,
    windows, counts, changed, width_s, first_window_at)
select c, 'site-' || lpad(s::text, 3, '0'), :content, at, cast(:metres as bigint) * 1000, 3600000, 1000, 10,
    jsonb_build_object('near_miss', cast(:events as int)), pg_current_xact_id()::text::bigint, 60, at
from unnest(cast(:classes as text[])) c, generate_series(0, 99) s,
    generate_series(now() - cast(:back as int) * interval '1 hour', now(), interval '1 hour') at
on conflict (device_class, site, content_digest, starts_at) do update set
    distance_mm = telemetry_cell.distance_mm + excluded.distance_mm, changed = excluded.changed
"""
ON_ITS_WAY = """
insert into rollout_deployment (rollout_id, device_id, site, device_class, seen_at, phase, detail, active_content,
    qualification, standing)
select cast(:rollout as text), id, site, device_class, now(), 'committed', '', cast(:content as text), '{}', 'committed'
from fleet_device
where ('x' || substr(encode(sha256((cast(:rollout as text) || '/' || id)::bytea), 'hex'), 1, 15))::bit(60)::bigint
      < (0.1 * (1::bigint << 60))::bigint
on conflict do nothing
"""


async def _timed(what: Awaitable[Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    found = await what
    return time.perf_counter() - begun, found


async def _fill(server: Server, devices: int, content: str) -> None:
    for name in CLASSES:
        await server.ok("PUT", f"/device-classes/{name}", json={"title": name})
    await run(server, DEVICES.replace(":classes", f"array{list(CLASSES)!r}"), devices=devices, content=content)
    await _drive(server, content, hours=WEEK_H, metres=max(devices // 100, 10), events=max(devices // 20_000, 1))
    await run(server, "analyze")


async def _drive(server: Server, content: str, hours: int, metres: int, events: int) -> None:
    await run(server, CELLS, content=content, classes=list(CLASSES), metres=metres, events=events, back=hours)


async def _measure(server: Server, devices: int) -> dict[str, float]:
    old, new = await register(server, 2.0), await register(server, 3.0)
    content, champion = new["content_digest"], old["content_digest"]
    await _fill(server, devices, champion)
    made = await _cut(server, old["content_digest"])
    await _baseline(server, made)
    made = await _cut(server, content)
    keeper, seconds = Keeper(server.context), dict[str, float]()
    body = {"release": made["digest"], "plan": PLAN, "override_reason": "a bench", "plan_override": "a bench"}
    seconds["create"], rollout = await _timed(server.ok("POST", "/rollouts", Role.OPERATOR, json=body))
    await _approve(server, made["digest"])
    seconds["start"] = (await _timed(keeper.tick()))[0] + (await _timed(keeper.tick()))[0]
    await _is(server, rollout["id"], "rolling", 0)
    # As if it had begun a week ago: a hundred slices of time in each stratum.
    await run(server, "update rollout set started_at = now() - interval '7 days'")
    await _drive(server, content, hours=WEEK_H, metres=max(devices // 1000, 10), events=max(devices // 200_000, 1))
    await Upkeep(server.context).tick()  # a worker does, and a week of cells does not come at once
    seconds["first_look"] = (await _timed(keeper.tick()))[0]
    await run(server, ON_ITS_WAY, rollout=rollout["id"], content=content)
    seconds["widen"] = await _look(server, keeper, champion, content)
    looks = [await _look(server, keeper, champion, content) for _ in range(LOOKS)]
    seconds["look"] = median(looks)
    say(f"rollout: {devices} devices, looks {min(looks) * 1e3:.0f} to {max(looks) * 1e3:.0f} ms")
    wish = {"action": "halt", "reason": "a bench"}
    await server.ok("POST", f"/rollouts/{rollout['id']}/wishes", Role.OPERATOR, json=wish)
    seconds["halt"] = (await _timed(keeper.tick()))[0]
    await _is(server, rollout["id"], "halting", None)
    return seconds


async def _look(server: Server, keeper: Keeper, champion: str, content: str) -> float:
    """Let every stratum drive a little, and return the seconds of one tick."""
    await _drive(server, champion, 0, 1000, 1)
    await _drive(server, content, 0, 100, 0)
    return (await _timed(keeper.tick()))[0]


async def _cut(server: Server, content: str) -> dict[str, Any]:
    body = {"content_digest": content, "device_classes": list(CLASSES), "reason": "a bench"}
    made: dict[str, Any] = await server.ok("POST", "/releases", json=body)
    return made


async def _baseline(server: Server, made: dict[str, Any]) -> None:
    for name in CLASSES:
        await run(
            server,
            "insert into rollout_baseline (device_class, site, release, content_digest, counter) "
            "values (:name, '', :digest, :content, :counter)",
            name=name,
            digest=made["digest"],
            content=made["content_digest"],
            counter=made["counter"],
        )


async def _approve(server: Server, digest: str) -> None:
    for review in (await server.ok("GET", "/reviews?state=open&limit=500"))["items"]:
        if review["subject"] == digest:
            await server.ok("POST", f"/reviews/{review['id']}/answers", Role.APPROVER, json={"approves": True})


async def _is(server: Server, rollout_id: str, phase: str, stage: int | None) -> None:
    [row] = await select(server, "select phase, stage, because from rollout where id = :id", id=rollout_id)
    if row["phase"] != phase or stage not in (None, row["stage"]):
        raise RuntimeError(f"the rollout should be {phase}: {row}")


def _with(devices: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="fleetloop-bench-") as home:
        postgres = EmbeddedPostgres(Path(home) / "pg")
        try:
            upgrade(postgres.url)
            return asyncio.run(_serve(postgres.url, Path(home), devices))
        finally:
            postgres.stop()


async def _serve(url: str, home: Path, devices: int) -> dict[str, float]:
    async with open_server(url, home) as server:
        return await _measure(server, devices)


def bench() -> Iterable[Figure]:
    few, many = _with(1000), _with(1_000_000)
    for name, value in many.items():
        bound = LOOK_BOUND_S if name == "look" else BOUND_S if name != "first_look" else value
        note = f"1,000,000 devices, 300 strata; with 1,000 devices {few[name] * 1e3:.0f} ms"
        yield Figure(f"rollout_{name}", value * 1e3, "ms", bound * 1e3, bound / value, note)
