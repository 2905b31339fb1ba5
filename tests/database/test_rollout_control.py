"""What a rollout waits for, gives way to, takes back and can tell: through the API, on a real database."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from control_plane.kit.roles import Role
from control_plane.rollout.domain.assign import EVERYONE, return_score
from tests.support.device import Device, enrol, report
from tests.support.fleetwork import QUICK, Fleet, make_fleet
from tests.support.rows import run, select
from tests.support.server import Server

SLOW = {"stages": [{"fraction": 0.5, "min_exposure": 1e6, "must_prove": False}, {"fraction": 1.0}]}


@pytest.fixture
async def fleet(server: Server) -> Fleet:
    return await make_fleet(server)


async def begun(fleet: Fleet, content: str, **changes: Any) -> dict[str, Any]:
    """Start a rollout and let its first stage be offered."""
    made = await fleet.cut(content)
    rollout = await fleet.roll(made["digest"], **changes)
    await fleet.answer(made["digest"])
    for _ in range(2):
        await fleet.tick()
    return rollout


async def item_of(server: Server, rollout: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = await server.ok("GET", f"/rollouts/{rollout['id']}")
    return found


# --- pre-emption ------------------------------------------------------------------------------------------------------


async def test_a_newer_rollout_takes_the_devices_of_one_under_way(server: Server, fleet: Fleet) -> None:
    old, first, second = await fleet.version(2.0), await fleet.version(3.0), await fleet.version(4.0)
    await fleet.settle(old)
    slow = await begun(fleet, first["content_digest"], plan=SLOW)
    await fleet.live()
    assert len(fleet.running(first["content_digest"])) == 4
    made = await fleet.cut(second["content_digest"])
    body = {"release": made["digest"], "plan": QUICK, "override_reason": "urgent"}
    refused = await server.call("POST", "/rollouts", Role.OPERATOR, json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "rollout_in_progress")
    assert (await server.call("POST", "/rollouts", Role.PIPELINE, json=body | {"preempt": True})).status_code == 403
    urgent = await server.ok("POST", "/rollouts", Role.OPERATOR, json=body | {"preempt": True})
    assert urgent["preempts"] == [slow["id"]]
    await fleet.answer(made["digest"])
    await fleet.until(urgent["id"], "done", turns=20)
    await fleet.until(slow["id"], "halted")
    ended = await item_of(server, slow)
    assert (ended["phase"], ended["preempted_by"]) == ("halted", urgent["id"])
    assert len(fleet.running(second["content_digest"])) == 8
    because = [d["because"] for d in await server.ok("GET", f"/rollouts/{slow['id']}/decisions")]
    assert any(f"pre-empted by the newer rollout {urgent['id']}" in said for said in because)


async def test_rollouts_to_different_sites_do_not_meet(server: Server, fleet: Fleet) -> None:
    old, new, other = await fleet.version(2.0), await fleet.version(3.0), await fleet.version(4.0)
    fleet.devices += [await enrol(server, f"south-{n}", site="south") for n in range(4)]
    await fleet.settle(old)
    everyone = {"stages": [{"fraction": 1.0, "must_prove": False}]}
    north = await begun(fleet, new["content_digest"], plan=everyone, sites=["north"])
    south = await begun(fleet, other["content_digest"], plan=everyone, sites=["south"])
    await fleet.until(north["id"], "done")
    await fleet.until(south["id"], "done")
    await fleet.live()
    assert len(fleet.running(new["content_digest"])) == 8  # and none in the south, where it was never rolled out
    assert len(fleet.running(other["content_digest"])) == 4
    held = {(b["site"], b["content_digest"]) for b in await server.ok("GET", "/baselines")}
    assert {("north", new["content_digest"]), ("south", other["content_digest"]), ("", old["content_digest"])} == held


# --- going back -------------------------------------------------------------------------------------------------------


async def test_devices_go_back_in_waves_and_those_that_do_not_are_set_apart(server: Server, fleet: Fleet) -> None:
    old, new = await fleet.version(2.0), await fleet.version(3.0)
    await fleet.settle(old)
    plan = SLOW | {"returns": [0.5, 1.0], "return_s": 3600}
    rollout = await begun(fleet, new["content_digest"], plan=plan)
    await fleet.live()
    holders = fleet.running(new["content_digest"])
    assert len(holders) == 4
    places = sorted(
        return_score(rollout["id"], device.id) for device in holders
    )  # a fleet so small may lie on one side
    share = (places[1] + places[2]) / 2 / EVERYONE
    await run(
        server,
        "update rollout set plan = jsonb_set(plan, '{returns,0}', to_jsonb(cast(:share as float8)))",
        share=share,
    )
    await server.ok("POST", f"/rollouts/{rollout['id']}/wishes", json={"action": "halt", "reason": "a test"})
    await fleet.tick()
    orders = {id(d): (await d.check_in()).order for d in holders}
    kept = [d for d in holders if orders[id(d)] and orders[id(d)].rollout_id == rollout["id"]]  # type: ignore[union-attr]
    assert 0 < len(kept) < 4  # the first wave is told to go back, the others are not yet
    stubborn = next(d for d in holders if d not in kept)
    others = [d for d in fleet.devices if d is not stubborn]
    contents = {r["digest"]: r["content_digest"] for r in await server.ok("GET", "/releases")}
    for _ in range(3):
        await asyncio.gather(*(device.obey(contents) for device in others))
        await fleet.tick()
    waiting = await item_of(server, rollout)
    assert waiting["phase"] == "halting"
    await run(server, "update rollout set wave_since = now() - interval '2 hours'")
    for _ in range(4):
        await fleet.tick()
        await asyncio.gather(*(device.obey(contents) for device in others))
    await fleet.tick()
    assert (await item_of(server, rollout))["phase"] == "halted"
    tally = {t["standing"]: t["devices"] for t in await server.ok("GET", f"/rollouts/{rollout['id']}/tally")}
    assert tally == {"returned": 3, "quarantined": 1}
    [question] = [
        r for r in (await server.ok("GET", "/reviews?state=open"))["items"] if r["kind"] == "rollout_quarantine"
    ]
    assert question["evidence"]["devices"] == [stubborn.id]
    await is_left_out_until_it_is_back(server, fleet, stubborn, contents)


async def is_left_out_until_it_is_back(
    server: Server, fleet: Fleet, stubborn: Device, contents: dict[str, str]
) -> None:
    newest = await fleet.version(5.0)
    everyone = {"stages": [{"fraction": 1.0, "must_prove": False}], "settle_share": 0.8}
    rollout = await begun(fleet, newest["content_digest"], plan=everyone)
    order = (await stubborn.check_in()).order
    assert order is not None
    assert order.rollout_id is None  # the way back, and nothing else
    said = (await server.ok("GET", f"/devices/{stubborn.id}/explanation"))["lines"]
    assert any("set apart" in line for line in said)
    await stubborn.obey(contents)
    await fleet.tick()
    contents |= {r["digest"]: r["content_digest"] for r in await server.ok("GET", "/releases")}
    order = await stubborn.obey(contents)
    assert order is not None
    assert order.rollout_id == rollout["id"]


async def ordered_by(devices: list[Device]) -> set[str | None]:
    """Return which rollouts order something of these devices; None is the fleet's own release."""
    orders = [(await device.check_in()).order for device in devices]
    return {order.rollout_id for order in orders if order}


async def test_a_pause_sends_nobody_back_and_lets_nobody_begin(server: Server, fleet: Fleet) -> None:
    old, new = await fleet.version(2.0), await fleet.version(3.0)
    await fleet.settle(old)
    rollout = await begun(fleet, new["content_digest"], plan=SLOW)
    contents = {r["digest"]: r["content_digest"] for r in await server.ok("GET", "/releases")}
    reached = [d for d in fleet.devices if (order := (await d.check_in()).order) and order.rollout_id]
    first, *rest = reached
    await first.obey(contents)
    await server.ok("POST", f"/rollouts/{rollout['id']}/wishes", json={"action": "pause", "reason": "a test"})
    await fleet.tick()
    held = (await first.check_in()).order
    assert held is not None
    assert held.rollout_id == rollout["id"]
    assert await ordered_by(rest) == {None}
    await server.ok("POST", f"/rollouts/{rollout['id']}/wishes", json={"action": "resume", "reason": "a test"})
    await fleet.tick()
    assert await ordered_by(rest) == {rollout["id"]}


# --- when a device may switch -----------------------------------------------------------------------------------------


async def armed(device: Device) -> Any:
    order = (await device.check_in()).order
    if order is None or order.rollout_id is None:
        return None
    return (await device.check_in(deployment=report(order, "armed", reason="waiting_site"))).order


async def test_never_both_robots_of_one_cell(server: Server, fleet: Fleet) -> None:
    version = await fleet.version(2.0)
    await run(
        server, """update fleet_device set labels = jsonb_build_object('cell', 'c' || right(serial, 1)::int / 2)"""
    )
    everyone = {"stages": [{"fraction": 1.0, "must_prove": False}], "cell_budget": 1}
    await begun(fleet, version["content_digest"], plan=everyone)
    free = [bool((await armed(device)).site_free) for device in fleet.devices]
    assert free == [True, False] * 4  # one of each pair
    again = [bool((await armed(device)).site_free) for device in fleet.devices]
    assert again == free


async def test_a_window_on_the_sites_wall_decides_when(server: Server, fleet: Fleet) -> None:
    version = await fleet.version(2.0)
    now = datetime.now(UTC)
    later = [f"{now + timedelta(hours=h):%H:%M}" for h in (2, 3)]
    soon = [f"{now - timedelta(hours=1):%H:%M}", f"{now + timedelta(hours=1):%H:%M}"]
    everyone = {"stages": [{"fraction": 1.0, "must_prove": False}]}
    closed = everyone | {"windows": [{"zone": "UTC", "start": later[0], "end": later[1]}]}
    rollout = await begun(fleet, version["content_digest"], plan=closed)
    assert (await armed(fleet.devices[0])).site_free is False
    opened = (await item_of(server, rollout))["plan"] | {
        "windows": [
            {
                "zone": "UTC",
                "start": soon[0],
                "end": soon[1],
                "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
                "sites": [],
            }
        ]
    }
    async with server.context.database.transaction() as session:
        from control_plane.rollout import store  # noqa: PLC0415 - the plan of a rollout under way has no API

        row = await store.find(session, rollout["id"], lock=True)
        assert row is not None
        row.plan = opened
    server.app.state.board.forget()
    assert (await armed(fleet.devices[0])).site_free is True


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ({"zone": "Mars/Base", "start": "01:00", "end": "02:00"}, "no IANA zone"),
        ({"zone": "UTC", "start": "25:00", "end": "02:00"}, "HH:MM"),
        ({"zone": "UTC", "start": "01:00", "end": "01:00"}, "never open"),
    ],
)
async def test_a_senseless_window_is_refused(server: Server, fleet: Fleet, window: dict[str, str], said: str) -> None:
    made = await fleet.cut((await fleet.version(2.0))["content_digest"])
    body = {"release": made["digest"], "plan": QUICK | {"windows": [window]}, "override_reason": "x"}
    answer = await server.call("POST", "/rollouts", json=body)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


# --- retries ----------------------------------------------------------------------------------------------------------


async def test_a_refusal_that_passes_is_tried_again_and_has_an_end(server: Server, fleet: Fleet) -> None:
    version = await fleet.version(2.0)
    everyone = {"stages": [{"fraction": 1.0, "must_prove": False}], "retries": 1, "max_failures": 8}
    rollout = await begun(fleet, version["content_digest"], plan=everyone)
    device = fleet.devices[0]
    standings = []
    for _ in range(3):
        order = (await device.check_in(deployment=None)).order
        assert order is not None
        told = await device.check_in(deployment=report(order, "refused", reason="not_listed"))
        [row] = await select(
            server, "select standing, attempts from rollout_deployment where device_id = :d", d=device.id
        )
        standings.append((row["standing"], row["attempts"], told.order is None))
    assert standings == [("retrying", 1, True), ("failed", 2, False), ("failed", 3, False)]
    tally = {t["standing"]: t["devices"] for t in await server.ok("GET", f"/rollouts/{rollout['id']}/tally")}
    assert tally["failed"] == 1


# --- the planner ------------------------------------------------------------------------------------------------------


async def test_a_plan_that_cannot_decide_is_refused_or_overridden_by_name(server: Server, fleet: Fleet) -> None:
    old, new = await fleet.version(2.0, near_miss=1), await fleet.version(3.0)
    await fleet.settle(old)
    for _ in range(4):
        await fleet.live()
    made = await fleet.cut(new["content_digest"])
    blind = {"stages": [{"fraction": 0.25, "max_exposure": 10.0}, {"fraction": 1.0}]}
    body = {"release": made["digest"], "plan": blind, "override_reason": "a test"}
    refused = await server.call("POST", "/rollouts", Role.OPERATOR, json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "plan_cannot_decide")
    assert "raise its cap" in refused.json()["detail"]
    allowed = await server.ok("POST", "/rollouts", Role.OPERATOR, json=body | {"plan_override": "a rehearsal"})
    assert allowed["plan_override"] == "a rehearsal"
    assert allowed["forecast"]["can_decide"] is False
    said = (await server.ok("GET", f"/rollouts/{allowed['id']}/explanation"))["lines"]
    assert any("a rehearsal" in line for line in said)


async def test_the_planner_counts_with_the_fleets_own_rates(server: Server, fleet: Fleet) -> None:
    old = await fleet.version(2.0, near_miss=1)
    await fleet.settle(old)
    for _ in range(3):
        await fleet.live()
    body = {"model": "times", "device_classes": ["cart"], "plan": {"stages": [{"fraction": 0.5}, {"fraction": 1.0}]}}
    found = await server.ok("POST", "/rollouts/plan", Role.VIEWER, json=body)
    assert found["known"]
    assert found["events_per_exposure"] == pytest.approx(0.01)
    needs = {(n["stage"], n["ratio"]): n["exposure_needed"] for n in found["needs"]}
    assert needs[(0, 1.5)] > needs[(0, 2.0)] > 0
    assert {n["canary_devices"] for n in found["needs"] if n["stage"] == 0} == {4}
    unknown = await server.ok("POST", "/rollouts/plan", Role.VIEWER, json=body | {"device_classes": ["nothing"]})
    assert (unknown["known"], unknown["needs"]) == (False, [])


# --- telling ----------------------------------------------------------------------------------------------------------


async def test_every_decision_of_a_life_is_made_again(server: Server, fleet: Fleet) -> None:
    old, bad = await fleet.version(2.0), await fleet.version(3.0, near_miss=40)
    await fleet.settle(old)
    fleet.behaviour[old["content_digest"]] = {"near_miss": 1}
    rollout = await begun(
        fleet, bad["content_digest"], plan=QUICK | {"stages": [{"fraction": 0.25, "min_exposure": 1e6}]}
    )
    await fleet.until(rollout["id"], "halted")
    made = await server.ok("POST", f"/rollouts/{rollout['id']}/replay", Role.VIEWER)
    assert made["decisions"] >= 4
    assert made["different"] == 0
    assert any("worse than control" in each["because"] for each in made["items"])
    await run(
        server,
        """update rollout_decision set evidence = jsonb_set(evidence, '{cells}', '[]')
           where rollout_id = :id""",
        id=rollout["id"],
    )
    assert (await server.ok("POST", f"/rollouts/{rollout['id']}/replay", Role.VIEWER))["different"] > 0


async def test_a_device_and_a_rollout_explain_themselves(server: Server, fleet: Fleet) -> None:
    old, new = await fleet.version(2.0), await fleet.version(3.0)
    await fleet.settle(old)
    rollout = await begun(fleet, new["content_digest"], plan=SLOW)
    await fleet.live()
    await fleet.tick()
    said = (await server.ok("GET", f"/rollouts/{rollout['id']}/explanation", Role.VIEWER))["lines"]
    assert any("4 run it" in line for line in said)
    reached = [await server.ok("GET", f"/devices/{d.id}/explanation", Role.VIEWER) for d in fleet.devices]
    text = ["\n".join(each["lines"]) for each in reached]
    assert sum("and reaches this device" in each for each in text) == 4
    assert sum("will be reached in stage 2" in each for each in text) == 4
    missing = await server.call("GET", "/devices/nobody/explanation", Role.VIEWER)
    assert missing.status_code == 404


async def test_an_answer_counts_only_for_the_evidence_it_was_given_to(server: Server, fleet: Fleet) -> None:
    version = await fleet.version(2.0)
    made = await fleet.cut(version["content_digest"])
    first = await fleet.roll(made["digest"], override_reason="one reason")
    await server.ok("POST", f"/rollouts/{first['id']}/wishes", json={"action": "halt", "reason": "again"})
    await fleet.tick()
    await fleet.tick()
    second = await fleet.roll(made["digest"], override_reason="another reason")
    reviews = [r for r in (await server.ok("GET", "/reviews"))["items"] if r["subject"] == made["digest"]]
    assert sorted(r["state"] for r in reviews) == ["open", "superseded"]
    [asked] = [r for r in reviews if r["state"] == "open"]
    assert asked["evidence"]["rollout"] == second["id"]
