"""The real agent's identity against the real server: first contact, TLS of its own, renewal, reports."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from agents.link import DeviceClient, Enrolment, Identity, LinkError, Renewal, Reports, Uploader, enrol, new_http
from agents.link import open_client as opened
from agents.link.credentials import Credentials
from agents.link.identity import load_key, root_path
from agents.link.keys import DeviceKey
from agents.protocol import v1 as wire
from agents.sdk.layout import StateDir
from control_plane.kit import clock
from control_plane.kit.certificates import load_authority
from tests.support.device import CLASS
from tests.support.identity import authority_of, device_port
from tests.support.rows import count, select
from tests.support.server import Server
from tests.support.statements import ANNOUNCE

DEPLOYMENT = wire.DeploymentReport(release_digest="d" * 64, counter=1, phase=wire.DeploymentPhase.COMMITTED)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with new_http() as client:
        yield client


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A state directory with a root of trust, which is not what these tests are about."""
    found = StateDir(tmp_path / "device")
    root_path(found).parent.mkdir(parents=True, mode=0o700)
    root_path(found).write_bytes(b"{}")
    return found


async def wish_of(server: Server, url: str, **changes: Any) -> Enrolment:
    await server.ok("PUT", f"/device-classes/{CLASS}", json={"title": "Cart"})
    made = await server.ok("POST", "/enrolment-tokens", json={"device_class": CLASS})
    wish = {"server": url, "token": SecretStr(made["token"]), "serial": "sn-1", "device_class": CLASS, "site": "north"}
    return Enrolment.model_validate(wish | {"ca_sha256": made["ca_sha256"]} | changes)


async def check_in(client: DeviceClient, seq: int) -> None:
    message = {
        "boot_id": "b1",
        "seq": seq,
        "nonce": f"{seq:032d}",
        "sent_at": clock.now(),
        "agent_version": "1",
    }
    body = wire.CheckIn.model_validate(message).model_dump_json().encode()
    await client.post("check-in", body, wire.CheckInReply)


async def enrolled(server: Server, url: str, http: httpx.AsyncClient, state: StateDir) -> tuple[Identity, DeviceClient]:
    identity = await enrol(http, state, await wish_of(server, url))
    return identity, opened(http, state, identity)


async def test_the_agent_enrols_by_fingerprint_and_speaks_by_certificate(
    server: Server, http: httpx.AsyncClient, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with device_port(server) as url:
        _, client = await enrolled(server, url, http, state)
        monkeypatch.setattr(DeviceKey, "sign", lambda *_: pytest.fail("nothing needs to be signed"))
        for seq in range(3):
            await check_in(client, seq)
        await client.aclose()
    assert Credentials(state.private).ca.read_text() == authority_of(server).pem
    assert (state.private / "key.pem").stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in b"".join(path.read_bytes() for path in state.private.iterdir() if path.suffix == ".crt")


@pytest.mark.parametrize("told", ["another fingerprint", "nothing", "another authority"])
async def test_first_contact_believes_nobody_blindly(
    server: Server, http: httpx.AsyncClient, state: StateDir, tmp_path: Path, told: str
) -> None:
    other = load_authority(tmp_path / "other.pem", "fleetloop", clock.now())
    ways: dict[str, dict[str, Any]] = {
        "another fingerprint": {"ca_sha256": other.sha256},
        "nothing": {"ca_sha256": None},
        "another authority": {"ca_sha256": None, "ca_pem": other.pem},
    }
    async with device_port(server) as url:
        with pytest.raises(LinkError):
            await enrol(http, state, await wish_of(server, url, **ways[told]))
    assert Identity.load(state) is None
    assert await count(server, "fleet_device") == 0
    assert await select(server, "select 1 from fleet_enrolment_token where used_at is not null") == []


async def test_another_server_with_the_same_address_is_not_spoken_to(
    server: Server, http: httpx.AsyncClient, state: StateDir, tmp_path: Path
) -> None:
    other = load_authority(tmp_path / "other.pem", "fleetloop", clock.now())
    async with device_port(server) as url:
        identity, client = await enrolled(server, url, http, state)
        await client.aclose()
    async with device_port(server, other) as elsewhere:
        moved = opened(http, state, identity.model_copy(update={"server": elsewhere}))
        with pytest.raises(LinkError):
            await check_in(moved, 1)
        await moved.aclose()
    seen = await select(server, "select last_seen_at from fleet_device")
    assert seen == [{"last_seen_at": None}]


async def test_a_device_cannot_play_the_server(
    server: Server, http: httpx.AsyncClient, state: StateDir, unused_tcp_port: int
) -> None:
    """The stolen key and certificate of one device serve nobody else as a server."""
    async with device_port(server) as url:
        identity, client = await enrolled(server, url, http, state)
        await client.aclose()
    credentials = Credentials(state.private)
    playing = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    playing.load_cert_chain(credentials.certificate, credentials.key)
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", unused_tcp_port, ssl=playing)
    async with listener:
        fooled = opened(http, state, identity.model_copy(update={"server": f"https://127.0.0.1:{unused_tcp_port}"}))
        with pytest.raises(LinkError, match="CERTIFICATE_VERIFY_FAILED"):
            await check_in(fooled, 1)
        await fooled.aclose()


async def test_a_certificate_is_renewed_at_half_its_life_and_used_at_once(
    server: Server, http: httpx.AsyncClient, state: StateDir
) -> None:
    async with device_port(server) as url:
        identity, client = await enrolled(server, url, http, state)
        credentials = Credentials(state.private)
        renewal = Renewal(client, credentials)
        first = credentials.certificate.read_text()
        assert await renewal.once() > 30
        assert credentials.certificate.read_text() == first
        half = clock.now() - timedelta(days=16)
        credentials.store(issued(server, identity, state, half))
        await client.reopen()
        await renewal.once()
        assert credentials.certificate.read_text() != first
        assert not renewal.due()
        await check_in(client, 1)
        await client.aclose()


def issued(server: Server, identity: Identity, state: StateDir, at: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - only here

    key = load_key(state).private.public_key()
    return authority_of(server).issue_device(key, identity.device_id, at).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize("device_knows", [True, False])
async def test_a_certificate_that_is_over_is_renewed_by_the_key_alone(
    server: Server, http: httpx.AsyncClient, state: StateDir, monkeypatch: pytest.MonkeyPatch, device_knows: bool
) -> None:
    """A device whose clock is behind shows what is over, and learns from the server's TLS that it is."""
    async with device_port(server) as url:
        identity, client = await enrolled(server, url, http, state)
        credentials = Credentials(state.private)
        credentials.store(issued(server, identity, state, clock.now() - timedelta(days=40)))
        if not device_knows:
            valid = (clock.now() - timedelta(days=1), clock.now() + timedelta(days=29))
            monkeypatch.setattr(Credentials, "valid", lambda _: valid)
        await client.reopen()
        renewal = Renewal(client, credentials)
        for _ in range(4):
            try:
                await check_in(client, 1)
                break
            except LinkError:
                await renewal.once()
        else:
            pytest.fail(f"the device does not come back: {renewal.last_error}")
        await renewal.once()
        assert await count(server, "fleet_certificate") == 2
        await check_in(client, 2)
        await client.aclose()


async def test_a_fresh_key_survives_a_lost_answer(
    server: Server, http: httpx.AsyncClient, state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with device_port(server) as url:
        _, client = await enrolled(server, url, http, state)
        credentials = Credentials(state.private)
        renewal = Renewal(client, credentials, fresh_key=True)
        before = client.key.key_id
        with monkeypatch.context() as lossy:
            lossy.setattr(Renewal, "_keep", lambda *_: (_ for _ in ()).throw(LinkError("connection_lost", "power cut")))
            with pytest.raises(LinkError, match="power cut"):
                await renewal.renew()
        assert load_key(state).key_id == before
        restarted = Renewal(client, credentials)  # goes on with the key it had begun with
        assert restarted.due()
        await restarted.once()
        assert restarted.last_error is None
        assert client.key.key_id == load_key(state).key_id != before
        assert not (state.private / "key.next.pem").exists()
        await check_in(client, 1)
        await client.aclose()


async def test_reports_wait_on_disk_until_the_server_has_them(
    server: Server, http: httpx.AsyncClient, state: StateDir
) -> None:
    async with device_port(server) as url:
        identity, client = await enrolled(server, url, http, state)
        reports = Reports(client, state.private / "reports")
        await reports.settled(DEPLOYMENT, None)
        await client.aclose()
    away = opened(http, state, identity)
    again = Reports(away, state.private / "reports")
    await again.send_once()
    assert again.last_error is not None
    await away.aclose()
    async with device_port(server) as url:
        client = opened(http, state, identity.model_copy(update={"server": url}))
        reports = Reports(client, state.private / "reports")
        await reports.send_once()
        await reports.send_once()
        await client.aclose()
    assert (reports.last_error, reports.dropped, list((state.private / "reports").iterdir())) == (None, 0, [])
    kept = await select(server, "select device_id, subject from fleet_statement")
    assert kept == [{"device_id": identity.device_id, "subject": "d" * 64}]


async def test_reports_are_bounded(http: httpx.AsyncClient, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.link.reports.KEPT_MOST", 3)
    client = DeviceClient(http, "http://127.0.0.1:9", load_key(state), "dev_1")
    reports = Reports(client, state.private / "reports")
    for _ in range(5):
        await reports.settled(DEPLOYMENT, None)
    assert (len(list((state.private / "reports").iterdir())), reports.dropped) == (3, 2)


async def test_the_agent_swears_to_its_recordings(server: Server, http: httpx.AsyncClient, state: StateDir) -> None:
    async with device_port(server) as url:
        identity, client = await enrolled(server, url, http, state)
        await Uploader(client).announce(wire.RecordingAnnounce.model_validate(ANNOUNCE))
        await client.aclose()
    kept = await select(server, "select device_id, kind, subject from fleet_statement")
    assert kept == [{"device_id": identity.device_id, "kind": "recording", "subject": ANNOUNCE["sha256"]}]
