"""Check-ins answered from memory: right in what they say, written soon, and no way past quarantine (ADR 0018)."""

import asyncio
import urllib.parse
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agents.protocol import v1 as wire
from control_plane.kit import clock
from control_plane.rollout.domain import ReleaseRef
from tests.support.device import CONTENT, report
from tests.support.fleetwork import Fleet
from tests.support.identity import client_context, device_port, enrol_with_certificate, tls_client
from tests.support.quiet import HEADER, Quiet, another_process, opened, proxied, quiet_device
from tests.support.rows import run, select
from tests.support.server import Server, open_server

ACTIVE = {"release_digest": "d" * 64, "content_digest": CONTENT, "counter": 7}


@pytest.fixture
async def quiet(server: Server, tmp_path: Path) -> AsyncIterator[Quiet]:
    async with quiet_device(server, tmp_path) as made:
        yield made


async def until_refused(quiet: Quiet, code: str) -> int:
    """Check in until it is refused with this code; return how often it was answered before."""
    for answered in range(200):
        answer = await quiet.send(quiet.message())
        if answer.status_code != 200:
            assert (answer.status_code, answer.json()["code"]) == (403, code)
            return answered
        await asyncio.sleep(0.01)
    pytest.fail("the device is still heard")


async def test_a_quiet_check_in_is_answered_at_once_and_written_soon(quiet: Quiet) -> None:
    assert await quiet.from_memory()
    message = quiet.message(spool={"windows": 3}, platform={"machine": "aarch64", "load_1m": 0.9})
    opened(await quiet.send(message), quiet.device, message)
    before = await quiet.row()
    await quiet.flush()
    row = await quiet.row()
    assert (row["last_seq"], row["last_nonce"]) == (message.seq, message.nonce)
    assert (row["spool"], row["platform"]["load_1m"]) == ({"windows": 3.0}, 0.9)
    assert row["last_seen_at"] > before["last_seen_at"]


async def test_it_is_written_without_being_asked_for(quiet: Quiet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.fleet.service.quiet.WRITE_EVERY_S", 0.1)
    assert await quiet.from_memory()
    for _ in range(200):
        if (await quiet.row())["last_seq"] == quiet.device.seq:
            return
        await asyncio.sleep(0.02)
    pytest.fail("the sign of life was not written")


async def test_what_is_new_is_committed_before_the_answer(quiet: Quiet) -> None:
    assert await quiet.from_memory()
    await quiet.check_in(active=ACTIVE, counter_floor=7)
    row = await quiet.row()
    assert (row["active_content"], row["last_seq"]) == (CONTENT, quiet.device.seq)
    deployment = {"release_digest": "d" * 64, "counter": 7, "phase": "armed"}
    before = quiet.device.seq
    await quiet.check_in(active=ACTIVE, counter_floor=7, deployment=deployment)
    assert (await quiet.row())["last_seq"] == before + 1
    quiet.device.boot, quiet.device.seq = "boot-2", 0
    await quiet.check_in(active=ACTIVE, counter_floor=7)
    assert (await quiet.row())["boots"][0] == "boot-2"


async def test_by_tls_the_connection_is_judged_once(
    quiet: Quiet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = client_context(quiet.server, tmp_path, quiet.device.key, quiet.certificate)
    async with device_port(quiet.server) as url, tls_client(url, context) as http:
        quiet.http, header = http, {HEADER: ""}
        message = quiet.message()
        assert (await http.post("/device/v1/check-in", content=message.model_dump_json())).status_code == 200
        before = await quiet.row()
        judged: list[bytes] = []
        authority = quiet.server.context.device_ca
        assert authority is not None
        real = authority.judge
        monkeypatch.setattr(authority, "judge", lambda der, now: judged.append(der) or real(der, now), raising=True)
        for _ in range(3):
            message = quiet.message()
            opened(await http.post("/device/v1/check-in", content=message.model_dump_json()), quiet.device, message)
        assert (await quiet.row())["last_seq"] == before["last_seq"]
        assert judged == []
        refused = await http.post("/device/v1/check-in", content=quiet.message().model_dump_json(), headers=header)
        assert (refused.status_code, refused.json()["code"]) == (403, "identity_header")
        later = clock.now() + timedelta(days=31)
        monkeypatch.setattr(clock, "now", lambda: later)
        refused = await http.post("/device/v1/check-in", content=quiet.message().model_dump_json())
        assert (refused.status_code, refused.json()["code"]) == (401, "certificate_expired")


async def test_a_known_header_counts_from_the_proxy_only_and_for_its_device_only(quiet: Quiet) -> None:
    assert await quiet.from_memory()
    other = await quiet.send(quiet.message(), **{"Fleetloop-Device": "dev_other"})
    assert other.status_code == 401
    for spelled in ("Fleetloop_Client_Cert", "Fleetloop-Client_Cert"):
        doubled = await quiet.send(quiet.message(), **{spelled: "x"})
        assert (doubled.status_code, doubled.json()["code"]) == (403, "identity_header"), spelled
    direct = await quiet.server.http.post(
        "/device/v1/check-in",
        content=quiet.message().model_dump_json(),
        headers={HEADER: urllib.parse.quote(quiet.certificate)},
    )
    assert (direct.status_code, direct.json()["code"]) == (403, "identity_header")
    assert await quiet.from_memory()


async def test_the_proxys_secret_is_asked_for_every_time(database_url: str, tmp_path: Path) -> None:
    async with (
        open_server(database_url, tmp_path, proxy_secret="s3cret-s3cret") as server,
        proxied(server, tmp_path) as http,
    ):
        good = {"Fleetloop-Proxy-Secret": "s3cret-s3cret"}
        device, certificate = await enrol_with_certificate(server)
        quiet = Quiet(server, http, device, certificate)
        for _ in range(2):
            assert (await quiet.send(quiet.message(), **good)).status_code == 200
        for wrong in ({}, {"Fleetloop-Proxy-Secret": "wrong"}):
            answer = await quiet.send(quiet.message(), **wrong)
            assert (answer.status_code, answer.json()["code"]) == (403, "not_the_proxy")


async def test_a_replay_is_refused_and_proves_nothing(quiet: Quiet) -> None:
    await quiet.check_in()
    message = quiet.message()
    assert (await quiet.send(message)).status_code == 200
    for _ in range(2):
        again = await quiet.send(message)
        assert (again.status_code, again.json()["code"]) == (409, "replayed")
    assert (await quiet.row())["state"] == "active"
    await quiet.check_in()


async def test_one_number_with_two_nonces_is_two_computers(quiet: Quiet) -> None:
    message = quiet.message()
    assert (await quiet.send(message)).status_code == 200
    answer = await quiet.send(message.model_copy(update={"nonce": "f" * 32}))
    assert (answer.status_code, answer.json()["code"]) == (403, "device_cloned")
    assert (await quiet.row())["state"] == "quarantined"


@pytest.mark.parametrize("state", ["quarantined", "retired"])
async def test_a_decision_about_a_device_counts_at_once(quiet: Quiet, state: str) -> None:
    assert await quiet.from_memory()
    await quiet.server.ok("PATCH", f"/devices/{quiet.device.id}", json={"state": state, "reason": "smoke"})
    await asyncio.sleep(0.2)  # far more than a notification takes, far less than the next write
    assert await until_refused(quiet, f"device_{state}") == 0
    await quiet.server.ok("PATCH", f"/devices/{quiet.device.id}", json={"state": "active", "reason": "looked at"})
    await asyncio.sleep(0.2)
    for _ in range(2):  # what was not written before the decision is looked into first
        await quiet.check_in()
    assert await quiet.from_memory()


async def test_a_denied_key_counts_at_once(quiet: Quiet) -> None:
    assert await quiet.from_memory()
    digest = wire.device_key_id(quiet.device.key.public_key())
    await quiet.server.ok("PUT", f"/denied-keys/{digest}", json={"reason": "stolen"})
    await asyncio.sleep(0.2)
    assert await until_refused(quiet, "key_denied") == 0


LOST = {
    "device_quarantined": "update fleet_device set state = 'quarantined' where id = :id",
    "key_denied": """insert into fleet_denied_key (key_sha256, reason, denied_by)
                     select key_sha256, 'stolen', 'test' from fleet_device where id = :id""",
}


@pytest.mark.parametrize("code", LOST)
async def test_a_decision_whose_notification_is_lost_counts_from_the_next_write_on(quiet: Quiet, code: str) -> None:
    assert await quiet.from_memory()
    await run(quiet.server, LOST[code], id=quiet.device.id)
    await quiet.check_in()
    await quiet.flush()
    assert await until_refused(quiet, code) == 0


async def test_where_notifications_do_not_reach_nothing_is_answered_from_memory(quiet: Quiet) -> None:
    assert await quiet.from_memory()
    quiet.server.app.state.quiet.listen(listening=False)
    assert not await quiet.from_memory()
    quiet.server.app.state.quiet.listen(listening=True)
    assert await quiet.from_memory()


async def test_the_allowance_holds_for_memory_too(database_url: str, tmp_path: Path) -> None:
    async with (
        open_server(database_url, tmp_path, device_rate_per_s=2.0) as server,
        quiet_device(server, tmp_path) as quiet,
    ):
        answers = [await quiet.send(quiet.message()) for _ in range(40)]
        statuses = {answer.status_code for answer in answers}
        assert statuses == {200, 429}
        assert "retry-after" in next(answer for answer in answers if answer.status_code == 429).headers
        assert sum(answer.status_code == 200 for answer in answers) < 25


async def test_a_body_in_pieces_and_one_that_is_not_plain_are_judged_by_all_the_rules(quiet: Quiet) -> None:
    async def pieces(body: bytes) -> AsyncIterator[bytes]:
        yield body[:50]
        await asyncio.sleep(0.05)
        yield body[50:]

    message = quiet.message()
    header = {HEADER: urllib.parse.quote(quiet.certificate)}
    answer = await quiet.http.post(
        "/device/v1/check-in", content=pieces(message.model_dump_json().encode()), headers=header
    )
    opened(answer, quiet.device, message)
    assert (await quiet.row())["last_seq"] == message.seq
    body = quiet.message().model_dump_json().encode()
    for name, broken in {
        "a key twice": body.replace(b'"seq":', b'"seq":1,"seq":'),
        "a key twice, once spaced": body.replace(b'"seq":', b'"seq" :1,"seq":'),
        "a gauge twice": body.replace(b'"windows":0.0', b'"windows":0.0,"windows":1.0'),
        "a negative gauge": body.replace(b'"windows":0.0', b'"windows":-1.0'),
        "NaN": body.replace(b"4096.0", b"NaN"),
        "NUL": body.replace(b"aarch64", b"\\u0000"),
        "a short nonce": body.replace(b'"nonce":"', b'"nonce":"x","x":"'),
        "too large": body.replace(b"aarch64", b"a" * (64 << 10)),
    }.items():
        answer = await quiet.send(broken)
        assert answer.status_code in (413, 422), (name, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert await quiet.from_memory()


async def test_a_rollout_reaches_a_quiet_device_and_hears_that_it_lives(quiet: Quiet) -> None:
    made = Fleet(quiet.server, [quiet.device])
    version = await made.version(2.0)
    assert await quiet.from_memory()
    released = await made.cut(version["content_digest"])
    await made.roll(released["digest"], plan={"stages": [{"fraction": 1.0}]})
    await made.answer(released["digest"])
    for _ in range(2):
        await made.tick()
    order = (await quiet.check_in()).order
    assert order is not None
    assert order.release_digest == released["digest"]
    waiting = report(order, "downloading")
    await quiet.check_in(deployment=waiting)
    [before] = await select(quiet.server, "select phase, seen_at from rollout_deployment")
    told = (await quiet.check_in(deployment=waiting)).order
    assert told == order
    assert (await quiet.row())["last_seq"] < quiet.device.seq
    await quiet.flush()
    [after] = await select(quiet.server, "select phase, seen_at from rollout_deployment")
    assert (after["phase"], after["seen_at"] > before["seen_at"]) == ("downloading", True)


async def test_a_process_that_starts_knows_who_spoke_lately(quiet: Quiet, tmp_path: Path) -> None:
    deployment = {"release_digest": "d" * 64, "counter": 7, "phase": "committed", "qualification": {"p99_ms": 3.5}}
    said: dict[str, Any] = {"active": ACTIVE, "counter_floor": 7, "deployment": deployment}
    await quiet.check_in(**said)
    async with (
        another_process(quiet.server) as second,
        proxied(second, tmp_path, "2") as http,
    ):
        for _ in range(200):
            if second.app.state.identities.known(quiet.device.id) is not None and second.app.state.board.is_fresh:
                break
            await asyncio.sleep(0.01)
        there = Quiet(second, http, quiet.device, quiet.certificate)
        before = (await there.row())["last_seq"]
        await there.check_in(**said)
        assert (await there.row())["last_seq"] == before
        await there.flush()
        assert (await there.row())["last_seq"] == quiet.device.seq


async def test_nobody_is_sent_back_from_memory(quiet: Quiet) -> None:
    """A process that has just begun may not have heard of the rollout by which a device has what it runs."""
    await quiet.check_in(active=ACTIVE, counter_floor=7)
    state = quiet.server.app.state
    known = state.identities.known(quiet.device.id)
    body = quiet.message(active=ACTIVE, counter_floor=7).model_dump_json().encode()
    assert state.offers.holds(known, body) is not None
    known.offer, known.offered_at = None, -1
    older = ReleaseRef("e" * 64, 100, 8, "f" * 64)
    state.board.baseline = {(known.device_class, ""): [older]}
    assert state.offers.holds(known, body) is None
    state.board.baseline = {(known.device_class, ""): [ReleaseRef("e" * 64, 100, 8, CONTENT)]}
    assert state.offers.holds(known, body) is not None
