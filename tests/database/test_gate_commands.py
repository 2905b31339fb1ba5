"""The gate's commands against a served control plane: what they print and with what they end."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from control_plane.cli import connection
from control_plane.cli.app import app
from control_plane.kit.db import execute
from control_plane.kit.roles import Role
from tests.support.gatework import evaluate, judge, make_suite
from tests.support.live import Live, serve
from tests.support.registry import register

POLICY = "gate:\n  parts:\n    - {suite: nominal, rule: non_inferior, margin: 0.01}\n"


@pytest.fixture
async def live(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Live]:
    async with serve(database_url, tmp_path / "home") as served:
        monkeypatch.setenv("FLEETLOOP_SERVER", served.url)
        monkeypatch.setenv("FLEETLOOP_TOKEN", served.server.tokens[Role.ADMIN])
        connection.close()
        yield served
        connection.close()


async def fleetloop(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, list(words))


@pytest.fixture
async def gate(live: Live) -> dict[str, Any]:
    champion, candidate = await register(live.server, 2.0), await register(live.server, 3.0)
    suite = await make_suite(live.server)
    await evaluate(live.server, champion, suite, set())
    await evaluate(live.server, candidate, suite, {3})
    return await judge(live.server, candidate, champion, suite)


async def test_a_gate_is_planned_shown_and_decided_again(live: Live, gate: dict[str, Any]) -> None:
    planned = await fleetloop("gate", "plan", "times", "--json")
    assert (planned.exit_code, json.loads(planned.stdout)["needed"]) == (0, 34)
    assert (await fleetloop("gate", "plan", "times", "--broke", "0.4")).exit_code == 1  # the suite is too small
    shown = await fleetloop("gate", "show", gate["id"])
    assert shown.exit_code == 0
    assert gate["evidence_sha256"] in shown.stdout
    again = await fleetloop("gate", "replay", gate["id"])
    assert (again.exit_code, "1 of 1 gates decide the same" in again.stdout) == (0, True)
    async with live.server.context.database.transaction() as session:
        await execute(session, "update evaluation_gate set verdict = 'fail'")
    every = await fleetloop("gate", "replay", "--all", "--json")
    assert (every.exit_code, json.loads(every.stdout)["same"]) == (1, False)
    assert (await fleetloop("gate", "replay")).exit_code == 2
    assert (await fleetloop("gate", "replay", "gate_none")).exit_code == 3


async def test_another_policy_is_tried(live: Live, gate: dict[str, Any], tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    tried = await fleetloop("gate", "backtest", str(policy))
    assert (tried.exit_code, "false block: 1 of 1" in tried.stdout) == (0, True)
    assert "false pass: nothing to judge it by" in tried.stdout
    for text in ("- a list\n", "{", "gate: {parts: []}\n"):
        policy.write_text(text)
        assert (await fleetloop("gate", "backtest", str(policy))).exit_code == 2, text
    assert (await fleetloop("gate", "backtest", str(tmp_path / "none.yaml"))).exit_code == 2


async def test_the_field_is_set_against_simulation(live: Live, gate: dict[str, Any]) -> None:
    undeclared = await fleetloop("coverage", "times")
    assert (undeclared.exit_code, "declares no domain" in undeclared.stderr) == (2, True)
    said = await fleetloop("prediction", "times")
    assert (said.exit_code, "from 3 on predictions are judged" in said.stdout.replace("\n", " ")) == (0, True)
    check = {"guilty": "0" * 64, "seeds": 3, "failures": 1}
    await live.server.ok("PUT", "/models/times/scenarios/e1", json=check)
    assert "flaky" in (await fleetloop("scenarios", "times")).stdout
    kept = await fleetloop("scenario", "times", "e1", "accept", "--reason", "it matters")
    assert (kept.exit_code, "accepted" in kept.stdout) == (0, True)
    assert (await fleetloop("scenario", "times", "e1", "hope", "--reason", "x")).exit_code == 2
