"""Replays of flips: who may bring them, what is refused, how people see them, and that nothing in them runs."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from control_plane.cli import connection
from control_plane.cli.app import app
from control_plane.evaluation.schemas import MOST_REPLAYED
from control_plane.kit.roles import Role
from control_plane.review import service as review
from tests.support.gatework import evaluate, judge, make_suite, onnx_of
from tests.support.live import serve
from tests.support.registry import put_model, register, upload
from tests.support.replaywork import put_replay, replay_body
from tests.support.rows import count
from tests.support.server import Server

EVIL = "<script>alert(1)</script> ran into <img src=x onerror=alert(1)>"
PARTS = [{"suite": "nominal", "rule": "non_inferior", "margin": 0.2}, {"rule": "reviews_closed"}]


@pytest.fixture
async def champion(server: Server) -> dict[str, Any]:
    return await register(server, 2.0)


@pytest.fixture
async def candidate(server: Server) -> dict[str, Any]:
    return await register(server, 3.0)


@pytest.fixture
async def gate(server: Server, candidate: dict[str, Any], champion: dict[str, Any]) -> dict[str, Any]:
    """A gate that asks people: the candidate broke s0 to s7 and mended s9."""
    await put_model(server, gate={"metric": "incident", "parts": PARTS})
    suite = await make_suite(server)
    await evaluate(server, champion, suite, {9})
    await evaluate(server, candidate, suite, set(range(8)))
    return await judge(server, candidate, champion, suite)


async def page_of(server: Server, path: str, role: Role = Role.VIEWER) -> httpx.Response:
    transport = httpx.ASGITransport(server.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://fleetloop.test") as browser:
        assert (await browser.post("/login", data={"token": server.tokens[role]})).status_code == 303
        return await browser.get(path)


async def test_both_sides_of_a_flip_are_taken_and_listed(
    server: Server, gate: dict[str, Any], candidate: dict[str, Any], champion: dict[str, Any]
) -> None:
    first = await put_replay(server, gate, candidate, "candidate", incident=1.0)
    assert (first.status_code, first.json()["agrees"]) == (200, True), first.text
    assert (await put_replay(server, gate, champion, "champion")).json()["agrees"] is True
    assert (await put_replay(server, gate, candidate, "candidate", incident=1.0)).status_code == 200
    found = await server.ok("GET", f"/gates/{gate['id']}/replays", Role.VIEWER)
    assert [(item["side"], item["outcome"]) for item in found] == [
        ("candidate", "reached its goal after 5.9 s"),
        ("champion", "reached its goal after 5.9 s"),
    ]
    assert {item["page"] for item in found} == {f"/gates/{gate['id']}/replays/nominal/s3"}
    assert await count(server, "evaluation_replay") == 2


async def test_only_a_pipeline_brings_replays(server: Server, gate: dict[str, Any], candidate: dict[str, Any]) -> None:
    file = await upload(server, json.dumps(replay_body(onnx_of(candidate), incident=1.0)).encode())
    body = {"suite": "nominal", "scenario": "s3", "side": "candidate", "file": file}
    for role, status in ((Role.VIEWER, 403), (Role.OPERATOR, 403), (Role.APPROVER, 403), (Role.PIPELINE, 200)):
        answer = await server.call("PUT", f"/gates/{gate['id']}/replays", role, json=body)
        assert answer.status_code == status, role
    assert (await server.call("PUT", "/gates/gate_none/replays", json=body)).status_code == 404
    assert (await server.call("GET", "/gates/gate_none/replays")).status_code == 404


async def test_what_is_no_replay_of_this_gate_is_refused(
    server: Server, gate: dict[str, Any], candidate: dict[str, Any], champion: dict[str, Any]
) -> None:
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("not_a_flip", {"scenario": "s20"}),
        ("replay_refused", {"simulator": "sim-2"}),
        ("replay_refused", {"suite": "field"}),
        ("replay_refused", {"model_sha256": onnx_of(champion)}),
        ("malformed", {"schema": "fleetloop.replay/v2"}),
        ("malformed", {"steps": []}),
        ("malformed", {"steps": replay_body("0" * 64)["steps"] * 7}),
        ("malformed", {"outcome": {"words": "x" * 301, "metrics": {}}}),
        ("malformed", {"robot": {"radius_m": 0.3, "ray_angles_rad": [0.0] * 61}}),
    ]
    for code, change in wrong:
        scenario = change.pop("scenario", "s3")
        answer = await put_replay(server, gate, candidate, "candidate", scenario, **change)
        assert (answer.status_code, answer.json()["code"]) == (422, code), (change, answer.text)
    good = {"suite": "nominal", "scenario": "s3", "side": "candidate"}
    missing = {"file": {"sha256": "0" * 64, "size_bytes": 3}}
    large = {"file": {"sha256": "0" * 64, "size_bytes": 2 << 20}}
    for change, status in (
        (missing, 422),
        (large, 413),
        (missing | {"suite": "other"}, 422),
        (missing | {"side": "teacher"}, 422),
        (missing | {"scenario": "../../etc"}, 422),
        (missing | {"scenario": EVIL}, 422),
    ):
        answer = await server.call("PUT", f"/gates/{gate['id']}/replays", json=good | change)
        assert answer.status_code == status, (change, answer.text)
    assert await count(server, "evaluation_replay") == 0


async def test_a_gate_has_replays_of_a_handful_of_scenarios(
    server: Server, gate: dict[str, Any], candidate: dict[str, Any]
) -> None:
    for number in range(MOST_REPLAYED):
        answer = await put_replay(server, gate, candidate, "candidate", f"s{number}", incident=1.0)
        assert answer.status_code == 200, answer.text
    one_more = await put_replay(server, gate, candidate, "candidate", "s7", incident=1.0)
    assert (one_more.status_code, one_more.json()["code"]) == (422, "too_many_replays")
    assert (await put_replay(server, gate, candidate, "candidate", "s0", incident=1.0)).status_code == 200


async def test_a_first_version_has_no_champion_to_show(server: Server, candidate: dict[str, Any]) -> None:
    suite = await make_suite(server)
    await evaluate(server, candidate, suite, {3})
    alone = await judge(server, candidate, None, suite)
    answer = await put_replay(server, alone, candidate, "champion")
    assert answer.status_code == 422


async def test_a_hidden_suite_shows_no_drive(server: Server, candidate: Any, champion: Any) -> None:
    suite = await make_suite(server, kind="holdout")
    await evaluate(server, champion, suite, set())
    await evaluate(server, candidate, suite, {3})
    gate = await judge(server, candidate, champion, suite)
    answer = await put_replay(server, gate, candidate, "candidate", incident=1.0)
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_suite")


async def test_a_later_gate_over_the_same_shows_the_same_drives(
    server: Server, gate: dict[str, Any], candidate: dict[str, Any], champion: dict[str, Any]
) -> None:
    assert (await put_replay(server, gate, candidate, "candidate", incident=1.0)).status_code == 200
    await put_model(server, gate={"metric": "incident", "parts": PARTS[:1]})
    again = await judge(server, candidate, champion, {"digest": gate["evidence"]["suites"][0]})
    assert again["id"] != gate["id"]
    [found] = await server.ok("GET", f"/gates/{again['id']}/replays")
    assert found["page"] == f"/gates/{again['id']}/replays/nominal/s3"
    assert (await page_of(server, found["page"])).status_code == 200


async def test_people_see_both_models_and_nothing_in_it_runs(
    server: Server, gate: dict[str, Any], candidate: dict[str, Any], champion: dict[str, Any]
) -> None:
    ending = {"words": EVIL, "metrics": {"incident": 0.0}}
    assert (await put_replay(server, gate, candidate, "candidate", outcome=ending)).json()["agrees"] is False
    path = f"/gates/{gate['id']}/replays/nominal/s3"
    half = await page_of(server, path)
    assert "There is no replay of this model" in half.text
    assert (await put_replay(server, gate, champion, "champion")).status_code == 200
    answer = await page_of(server, path)
    assert answer.status_code == 200
    assert "&lt;script&gt;alert" in answer.text
    assert "<script>alert" not in answer.text
    assert not re.search(r"<[^>]* (style|on\w+)=", answer.text)
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "data-live" not in answer.text
    for words in ("reached its goal after 5.9 s", "Last steps of the candidate", "came out differently", "replay.js"):
        assert words in answer.text, words
    for hostile in (EVIL, "s20", "..", "%3Cscript%3E"):
        refused = await page_of(server, f"/gates/{gate['id']}/replays/nominal/{hostile}")
        assert refused.status_code == 404, hostile
        assert "<script>alert" not in refused.text


async def test_files_are_for_those_who_are_logged_in_and_checked_again(
    server: Server, gate: dict[str, Any], candidate: dict[str, Any]
) -> None:
    item = (await put_replay(server, gate, candidate, "candidate", incident=1.0)).json()
    path = f"{item['page']}/candidate.json"
    answer = await page_of(server, path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["scenario"] == "s3"
    stranger = await server.http.get(path)
    assert (stranger.status_code, stranger.headers["location"].startswith("/login")) == (303, True)
    assert (await page_of(server, f"{item['page']}/champion.json")).status_code == 404
    damage(server, item["sha256"])
    lost = await page_of(server, path)
    assert (lost.status_code, "replay is lost" in lost.text) == (404, True)
    assert (await page_of(server, item["page"])).status_code == 404


def damage(server: Server, sha256: str) -> None:
    """Let the bytes of an object be others than its name says."""
    [path] = [path for path in server.context.settings.home.rglob(sha256) if path.is_file()]
    path.chmod(0o644)
    path.write_bytes(b"[]")


async def test_the_gate_and_the_question_lead_to_the_replay(
    server: Server, gate: dict[str, Any], candidate: dict[str, Any]
) -> None:
    assert (await put_replay(server, gate, candidate, "candidate", incident=1.0)).status_code == 200
    link = f'href="/gates/{gate["id"]}/replays/nominal/s3"'
    assert link in (await page_of(server, f"/gates/{gate['id']}")).text
    async with server.context.database.transaction() as session:
        asked = (await review.list_reviews(session, limit=50)).items
    shown = {s["scenario"] for r in asked for s in r.evidence["scenarios"]}
    assert "s3" in shown
    assert link in (await page_of(server, "/")).text


@pytest.fixture
async def served(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    async with serve(database_url, tmp_path / "served") as live:
        monkeypatch.setenv("FLEETLOOP_SERVER", live.url)
        monkeypatch.setenv("FLEETLOOP_TOKEN", live.server.tokens[Role.ADMIN])
        connection.close()
        yield live.server
        connection.close()


async def test_the_command_line_lists_them_with_addresses(served: Server) -> None:
    champion, candidate = await register(served, 2.0), await register(served, 3.0)
    suite = await make_suite(served)
    await evaluate(served, champion, suite, set())
    await evaluate(served, candidate, suite, {3})
    gate = await judge(served, candidate, champion, suite)
    none = await asyncio.to_thread(CliRunner().invoke, app, ["gate", "replays", gate["id"]])
    assert (none.exit_code, "no replays" in none.stdout) == (0, True)
    assert (await put_replay(served, gate, candidate, "candidate")).status_code == 200
    plain = await asyncio.to_thread(CliRunner().invoke, app, ["gate", "replays", gate["id"]])
    assert "nominal s3 candidate: reached its goal after 5.9 s (not as the gate judged it)" in plain.stdout
    said = await asyncio.to_thread(CliRunner().invoke, app, ["gate", "replays", gate["id"], "--json"])
    item = json.loads(said.stdout)
    assert item["page"] == f"{served.http.base_url!s}".rstrip("/") + f"/gates/{gate['id']}/replays/nominal/s3"
    assert (await asyncio.to_thread(CliRunner().invoke, app, ["gate", "replays", "gate_none"])).exit_code == 3
