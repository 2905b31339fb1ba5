"""People with passwords, through the page, the command line and the door."""

import asyncio
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.access import service as access
from control_plane.access.domain import IDLE, LONGEST, Way, lasts, password_fault
from control_plane.access.service import Passwords, attempts
from control_plane.access.service.sessions import MOST_SESSIONS
from control_plane.audit import service as audit
from control_plane.kit import clock
from control_plane.kit.db import Database, execute, rows
from control_plane.kit.roles import Role
from tests.support.browsing import browser, form_token, signed_in
from tests.support.cli import fleetloop
from tests.support.live import serve
from tests.support.rows import run
from tests.support.server import Server

GOOD, BETTER = "a horse and a battery", "nine lamps in the cold store"


async def _add(
    server: Server, name: str = "ada", role: Role = Role.OPERATOR, password: str = GOOD
) -> httpx.AsyncClient:
    admin = await signed_in(server, Role.ADMIN)
    form = {
        "form_token": await form_token(admin),
        "name": name,
        "role": role,
        "password": password,
        "reason": "new here",
    }
    assert (await admin.post("/settings/people", data=form)).status_code == 303
    return admin


async def _enter(server: Server, name: str = "ada", password: str = GOOD) -> httpx.AsyncClient:
    person = browser(server)
    answer = await person.post("/login", data={"name": name, "password": password, "next": "/settings"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/settings"), answer.text
    return person


async def _change(admin: httpx.AsyncClient, name: str = "ada", **fields: Any) -> int:
    form = {"form_token": await form_token(admin), "reason": "it had to be"} | fields
    return (await admin.post(f"/settings/people/{name}", data=form)).status_code


async def test_an_admin_adds_a_person_who_signs_in_and_changes_the_password(server: Server) -> None:
    admin = await _add(server)
    first, second = await _enter(server), await _enter(server)
    page = (await first.get("/settings")).text
    assert "a password" in page
    assert "operator" in page
    token = await form_token(first)
    form = {"form_token": token, "old": GOOD, "new": BETTER, "again": BETTER}
    assert (await first.post("/settings/password", data=form | {"again": "other"})).status_code == 422
    assert (await first.post("/settings/password", data=form | {"old": "wrong"})).status_code == 403
    assert (await first.post("/settings/password", data=form | {"new": "short", "again": "short"})).status_code == 422
    assert (await first.post("/settings/password", data=form)).status_code == 303
    assert (await first.get("/settings")).status_code == 200, "whoever changed it stays, in a new session"
    assert (await second.get("/settings")).status_code == 303, "the others end"
    wrong = await browser(server).post("/login", data={"name": "ada", "password": GOOD})
    assert wrong.status_code == 401
    await _enter(server, password=BETTER)
    assert "ada" in (await admin.get("/settings/people")).text
    async with server.context.database.transaction() as session:
        stored = await rows(session, "select password from access_person")
        done = {(e.actor, e.action, e.because) for e in (await audit.list_entries(session)).items}
    assert stored[0]["password"].startswith("$argon2id$")
    assert ("test-admin", "person.create", "new here") in done
    assert ("ada", "person.password", "changed by its owner") in done


async def test_sessions_end_when_role_password_or_access_change(server: Server) -> None:
    admin = await _add(server)
    for fields in ({"role": "approver"}, {"password": BETTER}, {"active": "no"}):
        person = await _enter(server)
        assert await _change(admin, **fields) == 303
        assert (await person.get("/settings")).status_code == 303, fields
        if "password" in fields:
            assert await _change(admin, password=GOOD) == 303
    out = await browser(server).post("/login", data={"name": "ada", "password": GOOD})
    assert out.status_code == 401
    assert await _change(admin, active="yes") == 303
    assert "approver" in (await (await _enter(server)).get("/settings")).text


async def test_what_cannot_be(server: Server) -> None:
    admin = await _add(server, role=Role.ADMIN)
    assert await _change(admin) == 422
    assert await _change(admin, "nobody", role="viewer") == 404
    assert await _change(admin, role="emperor") == 422
    assert await _change(admin, reason=" ", role="viewer") == 422
    ada = await _enter(server)
    form = {"form_token": await form_token(ada), "reason": "to stay", "role": "viewer"}
    assert (await ada.post("/settings/people/ada", data=form)).status_code == 403
    again = {"form_token": await form_token(admin), "role": "viewer", "password": GOOD, "reason": "x"}
    for name in ("ada", "test-viewer", "a b", "<b>", ""):
        assert (await admin.post("/settings/people", data=again | {"name": name})).status_code in (409, 422), name
    assert (await server.call("POST", "/tokens", json={"name": "ada", "role": "viewer"})).status_code == 409
    viewer = await signed_in(server, Role.VIEWER)
    form = {"form_token": await form_token(viewer), "old": "x", "new": BETTER, "again": BETTER}
    assert (await viewer.post("/settings/password", data=form)).status_code == 404, "a token has no password"


async def test_wrong_passwords_must_wait_by_address_and_by_name(server: Server) -> None:
    await _add(server)
    for i in range(attempts.MOST):
        assert (await browser(server).post("/login", data={"name": "ada", "password": f"no{i}"})).status_code == 401
    refused = await browser(server).post("/login", data={"name": "ada", "password": GOOD})
    assert refused.status_code == 429
    assert "Wait" in refused.text
    await run(server, "update access_attempt set at = at - interval '61 seconds'")
    assert (await browser(server).post("/login", data={"name": "ada", "password": GOOD})).status_code == 303


async def test_attempts_count_for_all_processes_together_and_at_once(server: Server) -> None:
    databases = [Database(server.context.settings.database_url or "") for _ in range(2)]
    tries = [attempts.may_try(databases[i % 2], ("10.0.0.1", f"name n{i}")) for i in range(3 * attempts.MOST)]
    assert sum(await asyncio.gather(*tries)) == attempts.MOST
    assert not await attempts.may_try(databases[0], ("10.0.0.1",))
    assert await attempts.may_try(databases[0], ("10.0.0.2",))
    async with databases[1].transaction() as session:
        await attempts.succeeded(session, ("10.0.0.1",))
    assert await attempts.may_try(databases[0], ("10.0.0.1",)), "who was let in does not count"
    for database in databases:
        await database.close()


async def test_an_unknown_name_is_told_the_same_and_as_late(server: Server) -> None:
    await _add(server)
    answers = []
    for name in ("ada", "nobody", "test-admin"):
        answer = await browser(server).post("/login", data={"name": name, "password": "wrong wrong wrong"})
        answers.append((answer.status_code, answer.text))
    assert len(set(answers)) == 1
    hasher = Passwords()
    assert not await hasher.fits(None, "nobody")
    assert not await hasher.fits("no hash", "nobody")


async def test_a_token_s_session_shows_its_use_and_ends_with_it(server: Server) -> None:
    viewer, admin = await signed_in(server, Role.VIEWER), await signed_in(server, Role.ADMIN)
    form = {"form_token": await form_token(admin), "name": "ci", "role": "pipeline", "reason": "the nightly build"}
    made = await admin.post("/settings/tokens", data=form)
    assert made.status_code == 200
    token = made.text.split("<code>fl_")[1].split("<")[0]
    assert (await admin.post("/settings/tokens", data=form)).status_code == 409
    assert f"fl_{token}" not in (await admin.get("/settings/tokens")).text
    asked = await server.http.get("/api/v1/devices", headers={"Authorization": f"Bearer fl_{token}"})
    assert asked.status_code == 200
    listed = {item["name"]: item for item in await server.ok("GET", "/tokens")}
    assert listed["ci"]["last_used_at"]
    for name in ("ci", "test-viewer"):
        gone = await admin.post(f"/settings/tokens/{name}/revoke", data=form | {"reason": "lost"})
        assert gone.status_code == 303
    assert (await viewer.get("/settings")).status_code == 303
    async with server.context.database.transaction() as session:
        done = [(e.action, e.subject, e.because) for e in (await audit.list_entries(session)).items]
    assert ("token.revoke", "ci", "lost") in done
    assert ("token.create", "ci", "the nightly build") in done


async def test_sessions_are_few_and_do_not_last(server: Server) -> None:
    now = clock.now()
    async with server.context.database.transaction() as session:
        secrets = [
            await access.begin(session, Way.TOKEN, "test-viewer", now + timedelta(seconds=i))
            for i in range(MOST_SESSIONS + 3)
        ]
        alive = [await access.entered(session, secret, now) is not None for secret in secrets]
        assert alive == [False] * 3 + [True] * MOST_SESSIONS
        assert await access.entered(session, secrets[-1], now + IDLE + timedelta(minutes=1)) is None
        for nothing in (None, "", "x" * 500, "\x7f"):
            assert await access.entered(session, nothing, now) is None
        await execute(session, "update access_session set seen_at = :at", at=now + LONGEST)
        assert await access.entered(session, secrets[-1], now + LONGEST + timedelta(minutes=1)) is None
    assert lasts(now, now + LONGEST - IDLE / 2, now + LONGEST - IDLE / 4)


@pytest.mark.parametrize(
    ("password", "fault"),
    [(GOOD, None), ("short", "12"), ("a" * 20, "repeats"), ("my name is Ada ok", "name"), ("x1y2z" * 50, "200")],
)
def test_what_a_password_must_be(password: str, fault: str | None) -> None:
    said = password_fault(password, "ada")
    assert said is None if fault is None else said is not None and fault in said


async def test_the_command_line_adds_a_person(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(database_url, tmp_path) as live:
        token = tmp_path / "admin.token"
        token.write_text(live.server.tokens[Role.ADMIN])
        token.chmod(0o600)
        given = ("--url", live.url, "--token-file", str(token))
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{GOOD}\nmore\n"))
        done = await asyncio.to_thread(fleetloop, *given, "people", "create", "ada", "--role", "operator", "-o", "json")
        assert done.status == 0, done.err
        assert (json.loads(done.out)["name"], json.loads(done.out)["role"]) == ("ada", "operator")
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{GOOD}\n"))
        would = await asyncio.to_thread(fleetloop, *given, "people", "create", "bo", "--dry-run")
        assert would.status == 0
        assert GOOD not in would.out + would.err
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{GOOD}\n"))
        assert (await asyncio.to_thread(fleetloop, *given, "people", "create", "a b")).status == 2
        listed = await asyncio.to_thread(fleetloop, *given, "people", "list", "-o", "name")
        assert listed.out == "ada\n"


async def test_many_at_the_door_do_not_take_the_memory() -> None:
    hasher = Passwords()
    known = await hasher.hash(GOOD)
    tries = [asyncio.create_task(hasher.fits(known, GOOD)) for _ in range(18)]
    await asyncio.sleep(0)
    assert hasher.busy
    assert all(await asyncio.gather(*tries))
    assert not hasher.busy
