"""A release goes to devices in stages, with people and the gate before it and the field's evidence behind it."""

import asyncio
from typing import Any

import pytest

from control_plane.kit.auth import create_token
from control_plane.kit.roles import Role
from control_plane.rollout import store
from control_plane.rollout.domain import EVERYONE, Live, ReleaseRef, Stratum
from tests.support.device import enrol, report
from tests.support.fleetwork import QUICK, Fleet, make_fleet
from tests.support.gatework import evaluate, judge, make_suite
from tests.support.rows import count, run
from tests.support.server import Server

NORTH = Stratum("north", "cart")


@pytest.fixture
async def fleet(server: Server) -> Fleet:
    return await make_fleet(server)


async def test_a_release_widens_and_becomes_the_baseline(server: Server, fleet: Fleet) -> None:
    version = await fleet.version(2.0)
    made = await fleet.cut(version["content_digest"])
    rollout = await fleet.roll(made["digest"])
    assert (rollout["phase"], rollout["stage"]) == ("draft", 0)
    await fleet.tick()
    await fleet.tick()
    waiting = await server.ok("GET", f"/rollouts/{rollout['id']}")
    assert (waiting["phase"], "0 of 1 approvals" in waiting["because"]) == ("waiting_approval", True)
    await fleet.live()
    assert fleet.running(version["content_digest"]) == []
    await fleet.answer(made["digest"])
    await fleet.tick()
    await fleet.live()
    assert len(fleet.running(version["content_digest"])) == 2  # a quarter of eight
    done = await fleet.until(rollout["id"], "done")
    assert len(fleet.running(version["content_digest"])) == 8
    [baseline] = await server.ok("GET", "/baselines")
    assert (baseline["device_class"], baseline["release"]) == ("cart", made["digest"])
    stages = [(d["phase"], d["stage"]) for d in await server.ok("GET", f"/rollouts/{rollout['id']}/decisions")]
    assert stages == sorted(stages, key=lambda item: item[1])
    assert "overridden: a test" in done["because"]
    deployments = await server.ok("GET", f"/rollouts/{rollout['id']}/deployments")
    assert {d["active_content"] for d in deployments} == {version["content_digest"]}


async def test_the_control_group_is_told_nothing_new(server: Server, fleet: Fleet) -> None:
    old, new = await fleet.version(2.0), await fleet.version(3.0)
    await fleet.settle(old)
    made = await fleet.cut(new["content_digest"])
    await fleet.roll(made["digest"])
    await fleet.answer(made["digest"])
    for _ in range(2):
        await fleet.tick()
    orders = [(await device.check_in()).order for device in fleet.devices]
    told = [order.release_digest for order in orders if order]
    assert told.count(made["digest"]) == 2
    assert len(set(told)) == 2
    assert {order.rollout_id is None for order in orders if order and order.release_digest != made["digest"]} == {True}


async def test_harm_halts_and_devices_go_forward_to_old_bytes(server: Server, fleet: Fleet) -> None:
    old, bad = await fleet.version(2.0), await fleet.version(3.0, near_miss=40)
    await fleet.settle(old)
    fleet.behaviour[old["content_digest"]] = {"near_miss": 1}
    made = await fleet.cut(bad["content_digest"])
    rollout = await fleet.roll(made["digest"], plan=QUICK | {"stages": [{"fraction": 0.25, "min_exposure": 1e6}]})
    await fleet.answer(made["digest"])
    halting = await fleet.until(rollout["id"], "halting")
    assert "worse than control" in halting["because"]
    halted = await fleet.until(rollout["id"], "halted")
    assert fleet.running(bad["content_digest"]) == []
    assert len(fleet.running(old["content_digest"])) == 8
    restored = await server.ok("GET", f"/releases/{halted['restore_release']}")
    assert restored["content_digest"] == old["content_digest"]
    assert restored["counter"] > made["counter"]
    counters = {device.active["counter"] for device in fleet.devices if device.active}
    assert restored["counter"] in counters
    [baseline] = await server.ok("GET", "/baselines")
    assert baseline["content_digest"] == old["content_digest"]


async def test_one_event_of_the_gravest_kind_halts(fleet: Fleet) -> None:
    old, bad = await fleet.version(2.0), await fleet.version(3.0, collision=1)
    await fleet.settle(old)
    made = await fleet.cut(bad["content_digest"])
    rollout = await fleet.roll(made["digest"])
    await fleet.answer(made["digest"])
    halting = await fleet.until(rollout["id"], "halting", "halted")
    assert "gravest" in halting["because"]


async def test_a_harmful_first_release_does_not_block_the_next(server: Server, fleet: Fleet) -> None:
    """With no champion there is nothing to go back to; the rollout must still come to its end."""
    bad, better = await fleet.version(2.0, collision=1), await fleet.version(3.0)
    made = await fleet.cut(bad["content_digest"])
    rollout = await fleet.roll(made["digest"])
    await fleet.answer(made["digest"])
    halted = await fleet.until(rollout["id"], "halted")
    assert halted["restore_release"] is None
    assert "nothing came before it" in halted["because"]
    await fleet.settle(better)
    assert len(fleet.running(better["content_digest"])) == 8


@pytest.mark.parametrize("phase", ["refused", "reverted"])
async def test_devices_that_fail_stop_the_stage(server: Server, fleet: Fleet, phase: str) -> None:
    version = await fleet.version(2.0)
    made = await fleet.cut(version["content_digest"])
    rollout = await fleet.roll(made["digest"])
    await fleet.answer(made["digest"])
    for _ in range(2):
        await fleet.tick()
    await fleet.live(phase)
    await fleet.tick()
    item = await server.ok("GET", f"/rollouts/{rollout['id']}")
    assert item["phase"] in ("halting", "halted")
    assert fleet.running(version["content_digest"]) == []


async def test_a_silent_device_is_a_failure_of_the_stage(server: Server, fleet: Fleet) -> None:
    version = await fleet.version(2.0)
    made = await fleet.cut(version["content_digest"])
    rollout = await fleet.roll(made["digest"])
    await fleet.answer(made["digest"])
    for _ in range(2):
        await fleet.tick()
    await asyncio.gather(*(device.check_in() for device in fleet.devices))  # told, and never heard of again
    await run(server, "update fleet_device set last_seen_at = now() - interval '1 hour'")
    await run(server, "update rollout_deployment set looked_at = now() - interval '1 hour'")
    await fleet.tick()
    item = await server.ok("GET", f"/rollouts/{rollout['id']}")
    assert item["phase"] in ("halting", "halted")
    assert "silent" in str((await server.ok("GET", f"/rollouts/{rollout['id']}/decisions"))[-1]["because"])


async def test_a_report_about_another_release_is_not_this_ones_success(server: Server, fleet: Fleet) -> None:
    version = await fleet.version(2.0)
    made = await fleet.cut(version["content_digest"])
    rollout = await fleet.roll(made["digest"])
    await fleet.answer(made["digest"])
    for _ in range(2):
        await fleet.tick()
    for device in fleet.devices:
        order = (await device.check_in()).order
        if order:
            await device.check_in(deployment=report(order, "committed", release_digest="f" * 64))
            await device.check_in(deployment=report(order, "committed"))  # but it does not run it
    await fleet.tick()
    figures = await server.ok("GET", f"/rollouts/{rollout['id']}")
    assert (figures["phase"], figures["stage"]) == ("rolling", 0)
    assert "0 of 2" in figures["because"]


async def test_only_an_operator_overrides(server: Server, fleet: Fleet) -> None:
    version = await fleet.version(2.0)
    made = await fleet.cut(version["content_digest"])
    body = {"release": made["digest"], "plan": QUICK, "override_reason": "trust me"}
    for role, status in ((Role.VIEWER, 403), (Role.APPROVER, 403), (Role.PIPELINE, 403), (Role.OPERATOR, 201)):
        answer = await server.call("POST", "/rollouts", role, json=body)
        assert answer.status_code == status, role
    entries = (await server.ok("GET", "/audit?limit=200"))["items"]
    assert [e["because"] for e in entries if e["action"] == "rollout.override"] == ["trust me"]


async def test_the_gate_must_have_passed_this_very_version(server: Server, fleet: Fleet) -> None:
    good, bad = await fleet.version(2.0), await fleet.version(3.0)
    suite = await make_suite(server)
    await evaluate(server, good, suite, set())
    await evaluate(server, bad, suite, set(range(40)))
    passed, failed = await judge(server, good, None, suite), await judge(server, bad, None, suite)
    made, other = await fleet.cut(bad["content_digest"]), await fleet.cut(good["content_digest"])
    bodies = {"gate_not_passed": (made, failed), "gate_of_another": (made, passed)}
    for code, (about, gate) in bodies.items():
        body = {"release": about["digest"], "plan": QUICK, "gate_id": gate["id"]}
        answer = await server.call("POST", "/rollouts", Role.PIPELINE, json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
    body = {"release": other["digest"], "plan": QUICK, "gate_id": passed["id"]}
    rollout = await server.ok("POST", "/rollouts", Role.PIPELINE, json=body)
    assert rollout["gate_verdict"] == "pass"
    await fleet.answer(other["digest"])
    assert (await fleet.until(rollout["id"], "done"))["phase"] == "done"


async def test_without_gate_and_override_it_waits(server: Server, fleet: Fleet) -> None:
    version = await fleet.version(2.0)
    made = await fleet.cut(version["content_digest"])
    rollout = await fleet.roll(made["digest"], Role.PIPELINE, override_reason="")
    await fleet.answer(made["digest"])
    for _ in range(3):
        await fleet.tick()
    waiting = await server.ok("GET", f"/rollouts/{rollout['id']}")
    assert waiting["phase"] == "waiting_approval"
    assert "the gate has not decided" in waiting["because"]
    assert [(await device.check_in()).order for device in fleet.devices] == [None] * 8


async def test_as_many_people_as_needed_must_approve(server: Server, fleet: Fleet) -> None:
    version = await fleet.version(2.0)
    made = await fleet.cut(version["content_digest"])
    rollout = await fleet.roll(made["digest"])
    [review] = (await server.ok("GET", "/reviews?state=open"))["items"]
    path, yes = f"/reviews/{review['id']}/answers", {"approves": True}
    for role in (Role.VIEWER, Role.OPERATOR, Role.PIPELINE):
        assert (await server.call("POST", path, role, json=yes)).status_code == 403
    await run(server, "update review set needed = 2")
    await run(server, "update rollout set plan = jsonb_set(plan, '{approvals_needed}', '2')")
    for _ in range(2):
        await server.ok("POST", path, Role.APPROVER, json=yes)  # one person counts once
    for _ in range(3):
        await fleet.tick()
    assert (await server.ok("GET", f"/rollouts/{rollout['id']}"))["phase"] == "waiting_approval"
    async with server.context.database.transaction() as session:
        server.tokens[Role.APPROVER] = await create_token(session, "second", Role.APPROVER)
    await server.ok("POST", path, Role.APPROVER, json=yes)
    await fleet.tick()
    assert (await server.ok("GET", f"/rollouts/{rollout['id']}"))["phase"] == "rolling"
    again = await server.call("POST", path, Role.APPROVER, json=yes)
    assert again.status_code == 409


async def test_a_no_withdraws_it(server: Server, fleet: Fleet) -> None:
    version = await fleet.version(2.0)
    made = await fleet.cut(version["content_digest"])
    rollout = await fleet.roll(made["digest"])
    await fleet.answer(made["digest"], approves=False)
    withdrawn = await fleet.until(rollout["id"], "withdrawn")
    assert withdrawn["finished_at"]
    assert [(await device.check_in()).order for device in fleet.devices] == [None] * 8


async def test_one_live_rollout_per_class(server: Server, fleet: Fleet) -> None:
    version = await fleet.version(2.0)
    made = await fleet.cut(version["content_digest"])
    body = {"release": made["digest"], "plan": QUICK, "override_reason": "a test"}
    answers = await asyncio.gather(*(server.call("POST", "/rollouts", json=body) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"rollout_in_progress"}
    assert await count(server, "rollout") == 1


async def test_people_pause_resume_and_halt(server: Server, fleet: Fleet) -> None:
    old, new = await fleet.version(2.0), await fleet.version(3.0)
    await fleet.settle(old)
    made = await fleet.cut(new["content_digest"])
    rollout = await fleet.roll(made["digest"])
    await fleet.answer(made["digest"])
    path = f"/rollouts/{rollout['id']}/wishes"
    for _ in range(2):
        await fleet.tick()
    for action, phase in (("pause", "paused"), ("resume", "rolling"), ("halt", "halting")):
        body = {"action": action, "reason": "a person"}
        assert (await server.call("POST", path, Role.PIPELINE, json=body)).status_code == 403
        await server.ok("POST", path, Role.OPERATOR, json=body)
        await fleet.live()
        await fleet.tick()
        assert (await server.ok("GET", f"/rollouts/{rollout['id']}"))["phase"] == phase
    await fleet.until(rollout["id"], "halted")
    late = await server.call("POST", path, json={"action": "resume", "reason": "too late"})
    assert late.status_code == 409


async def test_late_joiners_fall_where_their_hash_puts_them(server: Server, fleet: Fleet) -> None:
    version = await fleet.version(2.0)
    await fleet.settle(version)
    new = await fleet.version(3.0)
    made = await fleet.cut(new["content_digest"])
    plan = {"stages": [{"fraction": 0.5, "min_exposure": 1e6, "must_prove": False}]}
    rollout = await fleet.roll(made["digest"], plan=plan)
    await fleet.answer(made["digest"])
    for _ in range(2):
        await fleet.tick()
    await fleet.live()
    before = set(map(id, fleet.running(new["content_digest"])))
    fleet.devices += [await enrol(server, f"late-{number}") for number in range(12)]
    for _ in range(2):
        await fleet.live()
        await fleet.tick()
    after = fleet.running(new["content_digest"])
    assert before <= set(map(id, after))
    assert 4 < len(after) < 16
    elsewhere = await enrol(server, "elsewhere", site="moon")
    assert (await elsewhere.check_in()).order is not None  # a site without a stage gets the baseline
    assert (await server.ok("GET", f"/rollouts/{rollout['id']}"))["phase"] == "rolling"


async def test_a_plan_that_does_not_widen_is_refused(server: Server, fleet: Fleet) -> None:
    version = await fleet.version(2.0)
    made = await fleet.cut(version["content_digest"])
    bad: list[list[dict[str, Any]]] = [
        [{"fraction": 0.5}, {"fraction": 0.2}],
        [{"fraction": 0.5}, {"fraction": 0.5}],
        [{"fraction": 0.5, "min_exposure": 10, "max_exposure": 1}],
        [{"fraction": 0.0}],
        [],
    ]
    for stages in bad:
        body = {"release": made["digest"], "plan": {"stages": stages}, "override_reason": "x"}
        assert (await server.call("POST", "/rollouts", json=body)).status_code == 422, stages
    assert await count(server, "rollout") == 0


async def test_a_process_that_has_not_heard_of_a_rollout_sends_nobody_back(server: Server, fleet: Fleet) -> None:
    """A device that was offered a release elsewhere takes it quickly, and comes here before the news of it does."""
    old, new = await fleet.version(2.0), await fleet.version(3.0)
    await fleet.settle(old)
    board = server.app.state.board
    before = (board.live, board.baseline)
    made = await fleet.cut(new["content_digest"])
    await fleet.roll(made["digest"])
    await fleet.answer(made["digest"])
    for _ in range(2):
        await fleet.tick()
    await fleet.live()
    [quick, *_] = [device for device in fleet.devices if device.active and device.active["counter"] == made["counter"]]
    board.live = before[0]
    board.read_at = asyncio.get_running_loop().time()
    order = (await quick.check_in()).order
    assert order is not None
    assert order.release_digest == made["digest"]


async def test_a_device_whose_counter_is_ahead_of_the_fleet_hears_why_it_is_ordered_nothing(
    server: Server, fleet: Fleet
) -> None:
    version = await fleet.version(2.0)
    await fleet.settle(version)
    device = fleet.devices[0]
    device.floor = 99
    assert (await device.check_in()).order is None
    said = " ".join((await server.ok("GET", f"/devices/{device.id}/explanation"))["lines"])
    assert "it has run counter 99 and takes none below" in said


async def test_a_device_that_asks_while_the_board_is_read_finds_it_whole(
    server: Server, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollout ends: it is no more among what is offered, and what it brought is the baseline, at the same moment."""
    old, new = await fleet.version(2.0), await fleet.version(3.0)
    await fleet.settle(old)
    made = await fleet.cut(new["content_digest"])
    rollout = await fleet.roll(made["digest"])
    await fleet.answer(made["digest"])
    await fleet.until(rollout["id"], "done")
    await fleet.live()
    device, board = fleet.devices[0], server.app.state.board
    who = server.app.state.identities.known(device.id).identity
    read, reading, go_on = store.baselines, asyncio.Event(), asyncio.Event()

    async def slow(session: Any) -> Any:
        reading.set()
        await go_on.wait()
        return await read(session)

    ended = (board.live, dict(board.baseline))
    board.live = {"cart": [Live(rollout["id"], ReleaseRef(made["digest"], 1, made["counter"], ""), {NORTH: EVERYONE})]}
    board.baseline = {("cart", ""): [ReleaseRef("0" * 64, 1, made["counter"] + 1, old["content_digest"])]}
    monkeypatch.setattr(store, "baselines", slow)
    board.forget()
    async with server.context.database.transaction() as session:
        under_way = asyncio.create_task(board.fresh(session, server.context.objects))
        await reading.wait()
        order = board.order(who, made["counter"], new["content_digest"])
        go_on.set()
        await under_way
    assert order is not None
    assert order.release.digest == made["digest"]
    assert (board.live, board.baseline) == ended
