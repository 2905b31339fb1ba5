"""Runs are asked for when the evidence says so, one at a time, and stay in somebody's hands until they end."""

from typing import Any

import pytest

from control_plane.kit.roles import Role
from control_plane.pipelines.reconcile import tick
from tests.support.device import Device, event, window
from tests.support.orchestrator import FakeOrchestrator
from tests.support.registry import put_model, register, release
from tests.support.rows import run as run_sql
from tests.support.server import Server


@pytest.fixture
def orchestrator() -> FakeOrchestrator:
    return FakeOrchestrator()


async def put_pipeline(server: Server, name: str = "p", **changes: Any) -> None:
    await put_model(server)
    body = {"flow": "loop", "model": "times", "params": {"seed": 1}} | changes
    await server.ok("PUT", f"/pipelines/{name}", json=body)


async def runs(server: Server) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await server.ok("GET", "/runs"))["items"]
    return found


async def silence(server: Server, seconds: int = 3600) -> None:
    statement = "update pipeline_run set heartbeat_at = heartbeat_at - :s * interval '1 second', "
    statement += "submitted_at = submitted_at - :s * interval '1 second'"
    await run_sql(server, statement, s=seconds)


async def test_events_ask_for_one_run_at_a_time(server: Server, device: Device, orchestrator: FakeOrchestrator) -> None:
    await put_pipeline(server, trigger={"min_events": 3})
    await device.telemetry(events=[event(0), event(1), event(2, kind="stuck")])
    await tick(server.context, orchestrator)
    assert await runs(server) == []  # being stuck is no incident
    await device.telemetry(events=[event(3)])
    for _ in range(3):
        await tick(server.context, orchestrator)
    [first] = await runs(server)
    assert (first["state"], first["attempt"], first["params"]) == ("submitted", 1, {"seed": 1, "since_event": 0})
    assert (await server.ok("GET", "/pipelines/p"))["event_cursor"] == 4
    await device.telemetry(events=[event(seq) for seq in range(4, 9)])
    await tick(server.context, orchestrator)
    assert len(await runs(server)) == 1
    await server.ok("POST", f"/runs/{first['id']}/finish", json={"attempt": 1, "state": "done"})
    for _ in range(2):
        await tick(server.context, orchestrator)
    second, _ = await runs(server)
    assert (second["params"]["since_event"], (await server.ok("GET", "/pipelines/p"))["event_cursor"]) == (4, 9)
    await server.ok("POST", f"/runs/{second['id']}/finish", json={"attempt": 1, "state": "failed", "failure": "x"})
    await tick(server.context, orchestrator)
    assert len(await runs(server)) == 2  # nothing new


async def test_a_disabled_pipeline_asks_for_nothing(server: Server, orchestrator: FakeOrchestrator) -> None:
    await put_pipeline(server, trigger={"every_s": 1}, enabled=False)
    await tick(server.context, orchestrator)
    assert await runs(server) == []
    await put_pipeline(server, trigger={"every_s": 1000})
    for _ in range(3):
        await tick(server.context, orchestrator)
    assert len(await runs(server)) == 1


async def test_a_run_that_falls_silent_is_asked_for_again_and_the_old_attempt_fenced(
    server: Server, orchestrator: FakeOrchestrator
) -> None:
    await put_pipeline(server)
    made = await server.ok("POST", "/pipelines/p/runs", Role.OPERATOR, json={"params": {"seed": 2}})
    path = f"/runs/{made['id']}"
    await tick(server.context, orchestrator)
    await server.ok("POST", f"{path}/heartbeat", Role.PIPELINE, json={"attempt": 1})
    step = {"attempt": 1, "state": "done", "seconds": 2.0, "compute_s": 1.0}
    await server.ok("PUT", f"{path}/steps/retrain", Role.PIPELINE, json=step)
    await tick(server.context, orchestrator)
    assert len(orchestrator.submitted) == 1
    await silence(server)
    for _ in range(3):
        await tick(server.context, orchestrator)
    again = await server.ok("GET", path)
    assert (again["state"], again["attempt"], len(orchestrator.submitted)) == ("submitted", 2, 2)
    assert "retrain" in again["steps"]
    assert {item["attempt"] for item in orchestrator.submitted.values()} == {1, 2}
    old = {
        ("POST", "heartbeat"): {"attempt": 1},
        ("PUT", "steps/gate"): step,
        ("POST", "finish"): {"attempt": 1, "state": "done"},
    }
    for (method, place), body in old.items():
        answer = await server.call(method, f"{path}/{place}", Role.PIPELINE, json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "attempt_lost"), place
    for _ in range(2):  # the answer to the first may be lost
        await server.ok("POST", f"{path}/finish", Role.PIPELINE, json={"attempt": 2, "state": "done"})
    late = await server.call("POST", f"{path}/heartbeat", json={"attempt": 2})
    assert (late.status_code, late.json()["code"]) == (409, "run_over")


async def test_an_orchestrator_that_is_down_only_delays(server: Server, orchestrator: FakeOrchestrator) -> None:
    await put_pipeline(server)
    made = await server.ok("POST", "/pipelines/p/runs", json={})
    orchestrator.down = True
    for _ in range(3):
        await tick(server.context, orchestrator)
    waiting = await server.ok("GET", f"/runs/{made['id']}")
    assert (waiting["state"], waiting["attempt"]) == ("requested", 0)
    orchestrator.down = False
    await tick(server.context, orchestrator)
    assert (await server.ok("GET", f"/runs/{made['id']}"))["state"] == "submitted"


async def test_a_run_that_always_falls_silent_fails_in_the_end(server: Server, orchestrator: FakeOrchestrator) -> None:
    await put_pipeline(server)
    made = await server.ok("POST", "/pipelines/p/runs", json={})
    for _ in range(22):
        await tick(server.context, orchestrator)
        await silence(server)
    ended = await server.ok("GET", f"/runs/{made['id']}")
    assert (ended["state"], ended["attempt"], "fell silent" in ended["failure"]) == ("failed", 20, True)


async def test_a_cancelled_run_is_not_listened_to(server: Server, orchestrator: FakeOrchestrator) -> None:
    await put_pipeline(server)
    made = await server.ok("POST", "/pipelines/p/runs", json={})
    await tick(server.context, orchestrator)
    path = f"/runs/{made['id']}"
    assert (await server.call("POST", f"{path}/cancel", Role.PIPELINE, json={"reason": "no"})).status_code == 403
    await server.ok("POST", f"{path}/cancel", Role.OPERATOR, json={"reason": "no longer wanted"})
    for place, body in (("heartbeat", {"attempt": 1}), ("finish", {"attempt": 1, "state": "done"})):
        answer = await server.call("POST", f"{path}/{place}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "run_over")
    assert (await server.call("POST", f"{path}/cancel", json={"reason": "again"})).status_code == 409
    await tick(server.context, orchestrator)
    assert len(orchestrator.submitted) == 1


async def test_a_rate_above_expected_is_that_of_the_running_version_only(
    server: Server, device: Device, orchestrator: FakeOrchestrator
) -> None:
    versions = [await register(server, scale) for scale in (2.0, 3.0)]
    low, high = sorted(version["content_digest"] for version in versions)
    made = await release(server, low)
    statement = "insert into rollout_baseline (device_class, release, content_digest, counter) values ('c', :r, :c, 1)"
    await run_sql(server, statement, r=made["digest"], c=low)
    await put_pipeline(server, trigger={"expected_rate": 0.001})
    # The other version's name sorts last and it had no incident: its rate must not stand for the running one's.
    await device.telemetry(windows=[window(0, high, 1000.0)])
    await tick(server.context, orchestrator)
    assert await runs(server) == []
    await device.telemetry(windows=[window(1, low, 1000.0, collision=30)], events=[event(2, content=low)])
    await tick(server.context, orchestrator)
    [asked] = await runs(server)
    assert "above 0.001" in asked["because"]
