"""What the server asks of a device before it switches: by rollout, by class, and how many of a site at once."""

import asyncio
from typing import Any

import pytest

from tests.support.device import CLASS, report
from tests.support.fleetwork import QUICK, Fleet, make_fleet
from tests.support.rows import run
from tests.support.server import Server

WHOLE = {"stages": [{"fraction": 1.0}]}


@pytest.fixture
async def fleet(server: Server) -> Fleet:
    return await make_fleet(server, 4)


async def ordered(fleet: Fleet, **plan: Any) -> dict[str, Any]:
    """Bring a rollout to the moment in which every device of the fleet is ordered its release."""
    made = await fleet.cut((await fleet.version(2.0))["content_digest"])
    rollout = await fleet.roll(made["digest"], plan=WHOLE | plan)
    await fleet.answer(made["digest"])
    for _ in range(2):
        await fleet.tick()
    return rollout


async def test_a_rule_that_cannot_be_read_is_refused_at_its_place(server: Server, fleet: Fleet) -> None:
    made = await fleet.cut((await fleet.version(2.0))["content_digest"])
    body = {"release": made["digest"], "plan": QUICK | {"safe_state": "docked and batery > 3"}, "override_reason": "x"}
    answer = await server.call("POST", "/rollouts", json=body)
    assert answer.status_code == 422
    assert "character 12: 'batery' is no term" in answer.text
    wrong = {"title": "Cart", "safe_state": 'between("22:00", "05:00", "Europe/Nowhere")'}
    answer = await server.call("PUT", f"/device-classes/{CLASS}", json=wrong)
    assert answer.status_code == 422
    assert "no time zone 'Europe/Nowhere'" in answer.text


async def test_the_rules_of_rollout_and_class_both_reach_the_device(server: Server, fleet: Fleet) -> None:
    await server.ok("PUT", f"/device-classes/{CLASS}", json={"title": "Cart", "safe_state": "battery >= 30"})
    kept = await server.ok("PUT", f"/device-classes/{CLASS}", json={"title": "Cart of another name"})
    assert kept["safe_state"] == "battery >= 30"
    await ordered(fleet, safe_state="stopped or docked")
    order = (await fleet.devices[0].check_in()).order
    assert order is not None
    assert order.safe_state == "(battery >= 30) and (stopped or docked)"
    assert order.site_free is None
    await server.ok("PUT", f"/device-classes/{CLASS}", json={"title": "Cart", "safe_state": ""})
    server.app.state.board.forget()
    order = (await fleet.devices[0].check_in()).order
    assert order is not None
    assert order.safe_state == "stopped or docked"


async def test_only_as_many_of_a_site_are_out_as_its_budget_says(server: Server, fleet: Fleet) -> None:
    await ordered(fleet, site_budget=2)
    orders = [(await device.check_in()).order for device in fleet.devices]
    assert {order.site_free if order else None for order in orders} == {False}

    async def says(number: int, phase: str, reason: str | None) -> bool | None:
        device, order = fleet.devices[number], orders[number]
        assert order is not None
        answer = await device.check_in(deployment=report(order, phase, reason=reason))
        return answer.order.site_free if answer.order else None

    # All ready at the same moment: two may go.
    answers = await asyncio.gather(*(says(number, "armed", "waiting_site") for number in range(4)))
    assert sorted(answers, key=str) == [False, False, True, True]
    out = [number for number, free in enumerate(answers) if free]
    waiting = [number for number, free in enumerate(answers) if not free]
    assert await says(out[0], "armed", "waiting_site") is True, "a grant is renewed for who asks again"
    assert await says(waiting[0], "armed", "waiting_site") is False
    # Who waits for something else takes nobody's turn.
    assert await says(waiting[1], "armed", "waiting_safe_state") is False
    await says(out[0], "trial", "awaiting_health")
    assert await says(waiting[0], "armed", "waiting_site") is False, "one is in its trial, the other's grant holds"
    await run(server, "update rollout_deployment set site_granted_until = now() - interval '1 second'")
    assert await says(waiting[0], "armed", "waiting_site") is True, "a grant that was not used ends"
    assert await says(out[1], "armed", "waiting_site") is False
    await says(out[0], "committed", None)
    assert await says(out[1], "armed", "waiting_site") is True
