"""What every slice stands on: idempotency keys, pages, the audit chain, the outbox, tokens, settings."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError

from control_plane.audit import service as audit
from control_plane.kit import outbox
from control_plane.kit.auth import create_token, revoke_token
from control_plane.kit.errors import Conflict
from control_plane.kit.pages import encode_cursor
from control_plane.kit.roles import Role
from control_plane.kit.settings import Settings
from tests.support.device import enrol
from tests.support.rows import count, run, select
from tests.support.server import Server

CLASS = {"title": "Cart"}


async def ask_token(server: Server, key: str | None, role: Role = Role.OPERATOR, **body: Any) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    return await server.call("POST", "/enrolment-tokens", role, json={"device_class": "cart"} | body, headers=headers)


async def test_a_key_makes_a_create_happen_once(server: Server) -> None:
    await server.ok("PUT", "/device-classes/cart", json=CLASS)
    answers = await asyncio.gather(*(ask_token(server, "k1") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["token"] for answer in answers}) == 1
    assert sum(answer.headers.get("idempotency-replayed") == "true" for answer in answers) == 4
    assert await count(server, "fleet_enrolment_token") == 1
    changed = await ask_token(server, "k1", site="north")
    assert (changed.status_code, changed.json()["code"]) == (409, "idempotency_key_reused")
    other_person = await ask_token(server, "k1", Role.ADMIN)
    assert other_person.json()["token"] != answers[0].json()["token"]
    await ask_token(server, None)
    await ask_token(server, None)
    assert await count(server, "fleet_enrolment_token") == 4
    assert (await ask_token(server, "k" * 201)).status_code == 422


async def test_a_failed_create_does_not_use_its_key_up(server: Server) -> None:
    assert (await ask_token(server, "k1")).status_code == 422  # no such class yet
    await server.ok("PUT", "/device-classes/cart", json=CLASS)
    assert (await ask_token(server, "k1")).status_code == 201


async def test_pages_show_everything_once_while_rows_are_added(server: Server) -> None:
    for number in range(5):
        await enrol(server, f"sn-{number}")
    seen: list[str] = []
    after = ""
    for _ in range(10):
        page = await server.ok("GET", f"/devices?limit=2{after}")
        seen += [item["serial"] for item in page["items"]]
        await enrol(server)
        if page["next"] is None or len(seen) >= 5:
            break
        after = f"&after={page['next']}"
    assert seen[:5] == [f"sn-{number}" for number in range(5)]


LISTS = "devices events recordings datasets trainings evaluations gates rollouts runs reviews jobs audit"


@pytest.mark.parametrize("path", [f"/{name}" for name in LISTS.split()])
async def test_a_cursor_that_is_not_ours_is_422(server: Server, path: str) -> None:
    for cursor in ("x", "%00", "e30", encode_cursor({}), encode_cursor([]), encode_cursor(1, 2), "A" * 400):
        answer = await server.call("GET", f"{path}?after={cursor}")
        assert answer.status_code in (200, 422), (cursor, answer.text)
    odd = [encode_cursor(value) for value in ("abc", -1, 2**70, None, 1.5)]
    for cursor in odd:
        answer = await server.call("GET", f"{path}?after={cursor}")
        assert answer.status_code in (200, 422), (cursor, answer.text)
    for limit in ("0", "501", "x"):
        assert (await server.call("GET", f"{path}?limit={limit}")).status_code == 422


async def test_jobs_made_in_one_instant_are_paged_without_end_or_loss(server: Server) -> None:
    await server.ok("PUT", "/clusters/local", json={"backend": "local", "usd_per_hour": 1, "watts": 10})
    for number in range(7):
        spec = {"command": ["true"], "timeout_s": 1}
        await server.ok("POST", "/jobs", json={"key": f"j{number}", "kind": "t", "spec": spec})
    await run(server, "update factory_job set created_at = now()")
    seen: list[str] = []
    after = ""
    for _ in range(10):
        page = await server.ok("GET", f"/jobs?limit=2{after}")
        seen += [item["key"] for item in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert sorted(seen) == [f"j{number}" for number in range(7)]


async def test_a_person_sends_text_that_cannot_be_stored(server: Server) -> None:
    for path, body in (
        ("/device-classes/cart", {"title": "a\x00b"}),
        ("/clusters/local", {"backend": "local", "usd_per_hour": 1, "watts": 1, "note": "\x00"}),
    ):
        answer = await server.call("PUT", path, json=body)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert (await server.call("GET", "/devices?site=%00")).status_code == 422


async def test_the_audit_chain_shows_tampering(server: Server) -> None:
    for number in range(5):
        async with server.context.database.transaction() as session:
            await audit.record(
                session, "me", "test", f"s{number}", "because", number=number, share=0.25, many=[1, None]
            )
    assert await server.ok("GET", "/audit/check") == {"entries": 5, "intact": True, "first_break": None}
    for statement in ("update audit_entry set actor = 'you'", "delete from audit_entry", "truncate audit_entry"):
        with pytest.raises(DBAPIError, match="append-only"):
            await run(server, statement)
    await run(server, "alter table audit_entry disable trigger audit_entry_append_only")
    await run(server, "update audit_entry set because = 'another' where seq = 3")
    check = await server.ok("GET", "/audit/check")
    assert (check["intact"], check["first_break"]) == (False, 3)
    await run(server, "update audit_entry set because = 'because' where seq = 3")
    await run(server, "delete from audit_entry where seq = 2")
    assert (await server.ok("GET", "/audit/check"))["first_break"] == 3


async def test_the_chain_has_no_forks_under_load(server: Server) -> None:
    async def write(number: int) -> None:
        async with server.context.database.transaction() as session:
            await audit.record(session, "me", "test", str(number))

    await asyncio.gather(*(write(number) for number in range(30)))
    assert await server.ok("GET", "/audit/check") == {"entries": 30, "intact": True, "first_break": None}


async def test_the_outbox_hands_over_in_order_and_again_after_a_failure(server: Server) -> None:
    database = server.context.database
    async with database.transaction() as session:
        for number in range(4):
            await outbox.emit(session, "t", {"n": number})
        await outbox.emit(session, "another", {})
    seen: list[int] = []
    broken = {1}

    async def handle(session: Any, payload: Any) -> None:
        if payload["n"] in broken:
            raise Conflict("not yet")
        seen.append(payload["n"])

    assert await outbox.dispatch(database, {"t": handle}) == 3
    assert seen == [0, 2, 3]
    [late] = await select(server, "select attempts, error from kit_outbox where done_at is null and topic = 't'")
    assert (late["attempts"], late["error"]) == (1, "Conflict: not yet")
    assert await outbox.dispatch(database, {"t": handle}) == 0  # it backs off
    broken.clear()
    await run(server, "update kit_outbox set next_at = now()")
    assert await outbox.dispatch(database, {"t": handle}) == 1
    assert seen == [0, 2, 3, 1]
    assert await count(server, "kit_outbox where done_at is null") == 1


async def test_a_dispatcher_that_dies_leaves_the_row_for_the_next(server: Server) -> None:
    database = server.context.database
    async with database.transaction() as session:
        await outbox.emit(session, "t", {"n": 1})
    seen: list[int] = []

    async def die(session: Any, payload: Any) -> None:
        seen.append(payload["n"])
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await outbox.dispatch(database, {"t": die})

    async def handle(session: Any, payload: Any) -> None:
        seen.append(payload["n"])

    await run(server, "update kit_outbox set next_at = now()")
    assert await outbox.dispatch(database, {"t": handle}) == 1
    assert seen == [1, 1]


async def test_two_dispatchers_share_the_work(server: Server) -> None:
    database = server.context.database
    async with database.transaction() as session:
        for number in range(20):
            await outbox.emit(session, "t", {"n": number})
    seen: list[int] = []

    async def handle(session: Any, payload: Any) -> None:
        seen.append(payload["n"])

    done = await asyncio.gather(*(outbox.dispatch(database, {"t": handle}) for _ in range(4)))
    assert (sum(done), sorted(seen)) == (20, list(range(20)))


async def test_what_is_rolled_back_is_not_emitted(server: Server) -> None:
    async def fail() -> None:
        async with server.context.database.transaction() as session:
            await outbox.emit(session, "t", {})
            raise Conflict("no")

    with pytest.raises(Conflict):
        await fail()
    assert await count(server, "kit_outbox") == 0


async def test_whoever_calls_can_ask_who_they_are(server: Server) -> None:
    assert await server.ok("GET", "/whoami", Role.APPROVER) == {
        "name": "test-approver",
        "role": "approver",
        "may": ["approver", "viewer"],
    }
    assert (await server.http.get("/api/v1/whoami")).status_code == 401


async def test_tokens_have_roles_and_can_be_taken_back(server: Server) -> None:
    body = {"device_class": "cart"}
    for role, status in ((Role.VIEWER, 403), (Role.APPROVER, 403), (Role.PIPELINE, 403), (Role.OPERATOR, 422)):
        assert (await server.call("POST", "/enrolment-tokens", role, json=body)).status_code == status
    for role, status in ((Role.OPERATOR, 403), (Role.PIPELINE, 403), (Role.ADMIN, 200)):
        assert (await server.call("PUT", "/device-classes/cart", role, json=CLASS)).status_code == status
    for header in ("", "Bearer", "Bearer ", "Basic abc", "Bearer nobody", f"Bearer {server.tokens[Role.ADMIN]}x"):
        answer = await server.http.get("/api/v1/devices", headers={"Authorization": header})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), header
    async with server.context.database.transaction() as session:
        assert await revoke_token(session, "test-viewer")
        assert not await revoke_token(session, "test-viewer")
    assert (await server.call("GET", "/devices", Role.VIEWER)).status_code == 401
    with pytest.raises(Conflict):
        async with server.context.database.transaction() as session:
            await create_token(session, "test-viewer", Role.ADMIN)
    hashes = await select(server, "select hash from kit_token")
    assert all(token not in str(hashes) for token in server.tokens.values())


async def test_unknown_paths_and_methods_are_problems(server: Server) -> None:
    for method, path, status in (("GET", "/api/v1/nothing", 404), ("DELETE", "/api/v1/devices", 405)):
        answer = await server.http.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    extra = await server.call("PUT", "/device-classes/cart", json=CLASS | {"typo": 1})
    assert (extra.status_code, extra.json()["errors"][0]["at"]) == (422, "body.typo")


def test_settings_come_from_the_environment_and_are_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLEETLOOP_CHECK_IN_S", "12.5")
    monkeypatch.setenv("FLEETLOOP_BOOTSTRAP_TOKEN", "secret-token")
    settings = Settings(home=tmp_path)
    assert (settings.check_in_s, settings.keys) == (12.5, tmp_path / "keys")
    assert "secret-token" not in repr(settings)
    for name, value in (("CHECK_IN_S", "0"), ("ORCHESTRATOR", "magic"), ("APPROVALS_NEEDED", "-1")):
        monkeypatch.setenv(f"FLEETLOOP_{name}", value)
        with pytest.raises(ValidationError):
            Settings(home=tmp_path)
        monkeypatch.delenv(f"FLEETLOOP_{name}")
