"""Who is heard as which device: certificates, proxies, denied keys, clones, conflicts, floods (attacks E, F)."""

import asyncio
import json
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agents.protocol import v1 as wire
from control_plane.fleet import store as fleet_store
from control_plane.kit import clock, tls
from control_plane.kit.certificates import CLOCK_SLACK, DEVICE_LIFE, load_authority
from control_plane.kit.db import Row, Session
from control_plane.kit.tls import behind_proxy
from tests.support.device import CLASS, Device, enrol, enrol_body, new_key, new_token, sign
from tests.support.identity import (
    authority_of,
    client_context,
    csr,
    device_port,
    enrol_with_certificate,
    listening,
    tls_client,
)
from tests.support.rows import count, run, select
from tests.support.server import Server, open_server

HEADER = "Fleetloop-Client-Cert"
SHA = "a" * 64
ROUTES = (
    ("POST", "check-in"),
    ("POST", "telemetry"),
    ("POST", "recordings"),
    ("POST", f"recordings/{SHA}/complete"),
    ("POST", "reports"),
    ("POST", "renew"),
    ("GET", f"blobs/sha256/{SHA}"),
)


def escaped(certificate: str) -> str:
    return urllib.parse.quote(certificate)


async def bare(http: httpx.AsyncClient, device: Device, path: str = "telemetry", **headers: str) -> httpx.Response:
    """Send without a signature."""
    message: Any = device.check_in_message() if path == "check-in" else {"stream_id": "s1"}
    return await http.post(f"/device/v1/{path}", json=message, headers=headers)


@asynccontextmanager
async def proxied(server: Server, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Speak to the application as nginx does, over a unix socket."""
    path = folder / "proxied.sock"
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with (
        listening(server, behind_proxy(server.app, socket=path)),
        httpx.AsyncClient(transport=transport, base_url="http://devices", timeout=20) as http,
    ):
        yield http


@asynccontextmanager
async def in_mode(database_url: str, home: Path, mode: str, **settings: Any) -> AsyncIterator[Server]:
    async with open_server(database_url, home, device_auth=mode, **settings) as server:
        yield server


async def test_a_certificate_is_enough_and_names_the_device(server: Server, tmp_path: Path) -> None:
    device, certificate = await enrol_with_certificate(server)
    found = x509.load_pem_x509_certificate(certificate.encode())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://fleetloop/device/{device.id}"]
    assert found.not_valid_after_utc - found.not_valid_before_utc == DEVICE_LIFE + CLOCK_SLACK
    context = client_context(server, tmp_path, device.key, certificate)
    async with device_port(server) as url, tls_client(url, context) as http:
        for path in ("telemetry", "check-in"):
            assert (await bare(http, device, path)).status_code == 200
            assert (await bare(http, device, path)).status_code == 200  # on the same connection
    kept = await select(server, "select device_id, because from fleet_certificate")
    assert kept == [{"device_id": device.id, "because": "enrol"}]


async def test_the_device_port_serves_no_people(server: Server, tmp_path: Path) -> None:
    async with device_port(server) as url, tls_client(url, client_context(server, tmp_path)) as http:
        assert (await http.get("/healthz")).status_code == 200
        for path in ("/api/v1/devices", "/", "/api/docs"):
            assert (await http.get(path)).status_code == 404


async def test_f60_without_a_certificate_of_ours_nobody_is_heard(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, certificate = await enrol_with_certificate(server)
    other = load_authority(tmp_path / "other.pem", "fleetloop", clock.now())
    theirs = other.issue_device(device.key.public_key(), device.id, clock.now()).public_bytes(Encoding.PEM).decode()
    over = authority_of(server).issue_device(device.key.public_key(), device.id, clock.now() - timedelta(days=31))
    async with device_port(server) as url:
        async with tls_client(url, client_context(server, tmp_path)) as http:
            assert (await bare(http, device)).status_code == 401
        for wrong in (theirs, over.public_bytes(Encoding.PEM).decode()):
            async with tls_client(url, client_context(server, tmp_path, device.key, wrong)) as http:
                with pytest.raises(httpx.TransportError):
                    await bare(http, device)
        async with tls_client(url, client_context(server, tmp_path, device.key, certificate)) as http:
            answer = await bare(http, device, **{"Fleetloop-Device": "dev_other"})
            assert answer.status_code == 401
            assert (await bare(http, device)).status_code == 200
            later = clock.now() + timedelta(days=31)
            monkeypatch.setattr(clock, "now", lambda: later)  # a connection that outlives its certificate
            answer = await bare(http, device)
            assert (answer.status_code, answer.json()["code"]) == (401, "certificate_expired")


async def test_f60_names_that_are_not_a_devices(server: Server, tmp_path: Path) -> None:
    """Behind a proxy our application judges every certificate itself, whatever the proxy was told to check."""
    device, certificate = await enrol_with_certificate(server)
    authority = authority_of(server)
    now, key = clock.now(), device.key.public_key()
    uri = x509.UniformResourceIdentifier
    elsewhere = f"spiffe://elsewhere/device/{device.id}"
    wrong = {
        "another trust domain": x509.SubjectAlternativeName([uri(elsewhere)]),
        "no device": x509.SubjectAlternativeName([uri("spiffe://fleetloop/gate/1")]),
        "a host name": x509.SubjectAlternativeName([x509.DNSName("*.fleetloop")]),
        "two names": x509.SubjectAlternativeName(
            [uri(f"spiffe://fleetloop/device/{device.id}"), uri("spiffe://fleetloop/device/dev_other")]
        ),
        "a NUL": x509.SubjectAlternativeName([uri(f"spiffe://fleetloop/device/{device.id}\x00x")]),
        "unknown": x509.SubjectAlternativeName([uri("spiffe://fleetloop/device/dev_unknown")]),
    }
    usage = ExtendedKeyUsageOID.CLIENT_AUTH
    as_server = authority.issue_server(["localhost"], now)[1].decode()
    async with proxied(server, tmp_path) as http:
        for name, names in wrong.items():
            made = authority._issue(key, device.id, names, usage, now, DEVICE_LIFE)
            header = escaped(made.public_bytes(Encoding.PEM).decode())
            assert (await bare(http, device, **{HEADER: header})).status_code == 401, name
        for header in (escaped(as_server), escaped(authority.pem), "%00", "x" * 30_000, certificate[:40]):
            assert (await bare(http, device, **{HEADER: header.replace("\n", " ")})).status_code == 401
        assert (await bare(http, device, **{HEADER: escaped(certificate)})).status_code == 200


async def test_f61_a_certificate_in_a_header_counts_only_from_our_proxy(server: Server, tmp_path: Path) -> None:
    device, certificate = await enrol_with_certificate(server)
    header = escaped(certificate)
    underscore = [(HEADER.replace("-", "_"), header)]
    async with device_port(server) as url, tls_client(url, client_context(server, tmp_path)) as direct:
        for http in (server.http, direct):
            for headers in ([(HEADER, header)], underscore):
                answer = await http.post("/device/v1/telemetry", json={"stream_id": "s1"}, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (403, "identity_header")
    async with proxied(server, tmp_path) as http:
        doubled = [[(HEADER, header), (HEADER, header)], [(HEADER, header), *underscore], underscore]
        for headers in doubled:
            answer = await http.post("/device/v1/telemetry", json={"stream_id": "s1"}, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (403, "identity_header"), headers
        assert (await bare(http, device, **{HEADER: header})).status_code == 200
        assert (await bare(http, device, **{HEADER: ""})).status_code == 401
        assert (await http.get("/api/v1/devices", headers={HEADER: header})).status_code == 404


async def test_f61_on_a_port_the_proxy_must_know_the_secret(database_url: str, tmp_path: Path) -> None:
    async with in_mode(database_url, tmp_path, "mtls", proxy_secret="s3cret-s3cret") as server:
        device, certificate = await enrol_with_certificate(server)
        async with proxied(server, tmp_path) as http:
            for secret in ([], ["wrong"], ["s3cret-s3cret", "s3cret-s3cret"]):
                headers = [(HEADER, escaped(certificate)), *(("Fleetloop-Proxy-Secret", each) for each in secret)]
                answer = await http.post("/device/v1/telemetry", json={"stream_id": "s1"}, headers=headers)
                assert (answer.status_code, answer.json()["code"]) == (403, "not_the_proxy"), secret
            good = {HEADER: escaped(certificate), "Fleetloop-Proxy-Secret": "s3cret-s3cret"}
            assert (await bare(http, device, **good)).status_code == 200


@pytest.mark.parametrize(
    ("mode", "by_certificate", "by_signature"), [("mtls", 200, 401), ("signature", 401, 200), ("either", 200, 200)]
)
async def test_the_mode_says_what_proves_a_device(
    database_url: str, tmp_path: Path, mode: str, by_certificate: int, by_signature: int
) -> None:
    async with in_mode(database_url, tmp_path, mode) as server:
        device, certificate = await enrol_with_certificate(server)
        async with device_port(server) as url:
            async with tls_client(url, client_context(server, tmp_path, device.key, certificate)) as http:
                assert (await bare(http, device)).status_code == by_certificate
            async with tls_client(url, client_context(server, tmp_path)) as http:
                device.http = http
                assert (await device.telemetry()).status_code == by_signature
                renewed = await device.post("renew", {"csr_pem": csr(device.key)})
                assert renewed.status_code == 200, renewed.text


async def test_f62_of_parallel_uses_of_a_token_one_succeeds(server: Server) -> None:
    await server.ok("PUT", f"/device-classes/{CLASS}", json={"title": "Cart"})
    token = await new_token(server)
    bodies = [enrol_body(token, new_key(), f"sn-{number}") for number in range(6)]
    answers = await asyncio.gather(*(server.http.post("/device/v1/enrol", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201, 403, 403, 403, 403, 403]
    assert await count(server, "fleet_device") == 1


async def test_f62_a_token_tried_for_others_is_used_up(server: Server) -> None:
    await server.ok("PUT", f"/device-classes/{CLASS}", json={"title": "Cart"})
    token, key = await new_token(server, serial="sn-1"), new_key()
    for _ in range(5):
        wrong = await server.http.post("/device/v1/enrol", json=enrol_body(token, new_key(), "sn-2"))
        assert wrong.status_code == 403
    right = await server.http.post("/device/v1/enrol", json=enrol_body(token, key, "sn-1"))
    assert (right.status_code, right.json()["code"]) == (403, "enrolment_refused")
    assert "tried" in right.json()["detail"]


async def test_f62_who_guesses_tokens_is_not_heard_for_a_while(server: Server) -> None:
    await server.ok("PUT", f"/device-classes/{CLASS}", json={"title": "Cart"})

    def guess() -> dict[str, Any]:
        return enrol_body(f"fle_{uuid4().hex}", new_key(), "sn-1")

    statuses = [(await server.http.post("/device/v1/enrol", json=guess())).status_code for _ in range(22)]
    assert statuses == [403] * 20 + [429] * 2
    refused = await server.http.post("/device/v1/enrol", json=enrol_body(await new_token(server), new_key(), "sn-1"))
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    transport = httpx.ASGITransport(server.app, client=("192.0.2.7", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://fleetloop.test") as elsewhere:
        body = enrol_body(await new_token(server), new_key(), "sn-1")
        assert (await elsewhere.post("/device/v1/enrol", json=body)).status_code == 201


async def test_f63_a_signing_request_may_ask_for_nothing(server: Server) -> None:
    from tests.kit.csrs import BAD_CSRS  # noqa: PLC0415 - makes keys when it is read

    await server.ok("PUT", f"/device-classes/{CLASS}", json={"title": "Cart"})
    device = await enrol(server)
    token, key = await new_token(server), new_key()
    bad = {name: make(key) for name, make in BAD_CSRS.items()} | {"another key": csr(new_key())}
    for name, pem in bad.items():
        answer = await server.http.post("/device/v1/enrol", json=enrol_body(token, key, "sn-1") | {"csr_pem": pem})
        assert answer.status_code in (413, 422), (name, answer.text)
        if name != "another key":
            renewal = await device.post("renew", {"csr_pem": pem})
            assert renewal.status_code in (413, 422), (name, renewal.text)
    assert await count(server, "fleet_certificate") == 0
    body = enrol_body(token, key, "sn-1") | {"csr_pem": csr(key)}
    assert (await server.http.post("/device/v1/enrol", json=body)).status_code == 201


async def is_quarantined(server: Server, device: Device) -> bool:
    return bool((await server.ok("GET", f"/devices/{device.id}"))["state"] == "quarantined")


async def test_f64_two_boots_that_take_turns_are_two_computers(server: Server, device: Device) -> None:
    clone = Device(device.http, device.key, device.id, device.director)
    await device.check_in()
    await clone.check_in()  # a clone looks like a restart at first
    late = await device.post("check-in", device.check_in_message())
    assert (late.status_code, late.json()["code"]) == (403, "old_boot")  # one may have been on its way
    assert not await is_quarantined(server, device)
    await clone.check_in()
    second = await device.post("check-in", device.check_in_message())
    assert (second.status_code, second.json()["code"]) == (403, "device_cloned")
    assert await is_quarantined(server, device)
    for each in (device, clone):
        for route in ("check-in", "telemetry"):
            message = each.check_in_message() if route == "check-in" else {"stream_id": "s1"}
            answer = await each.post(route, message)
            assert (answer.status_code, answer.json()["code"]) == (403, "device_quarantined"), route
    asked = (await server.ok("GET", "/reviews?state=open"))["items"]
    assert [(review["kind"], review["subject"]) for review in asked] == [("device.clone", device.id)]
    actions = [entry["action"] for entry in (await server.ok("GET", f"/audit?subject={device.id}"))["items"]]
    assert "device.quarantined" in actions
    body = {"state": "active", "reason": "the other one is off"}
    await server.ok("PATCH", f"/devices/{device.id}", json=body)
    await device.check_in()
    await device.check_in()


async def test_whoever_is_let_in_again_is_heard_before_the_notification_says_so(server: Server, device: Device) -> None:
    await device.check_in()
    body = {"state": "quarantined", "reason": "two of them"}
    await server.ok("PATCH", f"/devices/{device.id}", json=body)
    for route, message in (("check-in", device.check_in_message()), ("telemetry", {"stream_id": "s1"})):
        assert (await device.post(route, message)).json()["code"] == "device_quarantined"
    told = server.app.state.identities.changes
    await run(server, "update fleet_device set state = 'active' where id = :id", id=device.id)
    assert server.app.state.identities.changes == told  # nobody told this process
    await device.check_in()
    assert (await device.post("telemetry", {"stream_id": "s1"})).status_code == 200


async def test_a_device_that_is_not_heard_asks_for_its_row_no_oftener_than_it_may(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[str]()
    standing = fleet_store.standing

    async def counted(session: Session, device_id: str) -> Row | None:
        asked.append(device_id)
        return await standing(session, device_id)

    async with open_server(database_url, tmp_path, device_rate_per_s=1.0) as server:
        device = await enrol(server)
        await device.check_in()
        body = {"state": "quarantined", "reason": "two of them"}
        await server.ok("PATCH", f"/devices/{device.id}", json=body)
        monkeypatch.setattr(fleet_store, "standing", counted)
        answers = [await device.post("check-in", device.check_in_message()) for _ in range(40)]
    assert {answer.json()["code"] for answer in answers} == {"device_quarantined"}
    assert 5 <= len(asked) <= 20


async def test_f64_one_number_twice_with_two_nonces_is_two_computers(server: Server, device: Device) -> None:
    """A clone of a running machine has its boot id and its number too."""
    await device.check_in()
    first, second = device.check_in_message(), device.check_in_message()
    assert (await device.post("check-in", first)).status_code == 200
    answer = await device.post("check-in", second | {"seq": first["seq"]})
    assert (answer.status_code, answer.json()["code"]) == (403, "device_cloned")
    assert await is_quarantined(server, device)


async def test_e56_whoever_replays_cannot_have_a_device_locked_out(server: Server, device: Device) -> None:
    other = await enrol(server)
    old = [device.check_in_message() for _ in range(3)]
    for message in old:
        assert (await device.post("check-in", message)).status_code == 200
    device.boot, device.seq = "boot-2", 0
    await device.check_in()
    current = device.check_in_message()
    assert (await device.post("check-in", current)).status_code == 200
    for _ in range(4):
        again = await device.post("check-in", current)
        assert (again.status_code, again.json()["code"]) == (409, "replayed")
        for message in old:
            answer = await device.post("check-in", message)
            assert (answer.status_code, answer.json()["code"]) == (403, "old_boot")
    body = json.dumps(current).encode()
    as_other = sign(device.key, wire.signing_input("POST", "/device/v1/check-in", body))
    headers = {"Fleetloop-Device": other.id, "Fleetloop-Signature": as_other}
    assert (await server.http.post("/device/v1/check-in", content=body, headers=headers)).status_code == 401
    assert not await is_quarantined(server, device)
    await device.check_in()
    before = await select(server, "select last_seq from fleet_device where id = :id", id=device.id)
    assert before == [{"last_seq": device.seq}]


async def test_e57_a_flood_of_one_device_is_answered_429_and_others_are_not_affected(
    database_url: str, tmp_path: Path
) -> None:
    async with open_server(database_url, tmp_path, device_rate_per_s=2.0) as server:
        loud, quiet = await enrol(server), await enrol(server)
        answers = [await loud.post("check-in", loud.check_in_message()) for _ in range(40)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert {answer.status_code for answer in answers} == {200, 429}
        assert len(answers) - len(refused) >= 20  # ten seconds' worth at once
        assert refused
        assert refused[-1].json()["code"] == "too_many_requests"
        assert 1 <= int(refused[-1].headers["retry-after"]) <= 2
        for _ in range(5):
            await quiet.check_in()
        stranger = sign(new_key(), b"")
        headers = {"Fleetloop-Device": quiet.id, "Fleetloop-Signature": stranger}
        for _ in range(30):  # who cannot prove to be the device does not use up what it may ask
            assert (await server.http.post("/device/v1/telemetry", headers=headers)).status_code == 401
        await quiet.check_in()


async def test_f65_a_denied_key_is_refused_by_every_route_from_the_next_request_on(
    server: Server, tmp_path: Path
) -> None:
    device, certificate = await enrol_with_certificate(server)
    context = client_context(server, tmp_path, device.key, certificate)
    async with device_port(server) as url, tls_client(url, context) as http:
        assert (await bare(http, device)).status_code == 200
        await device.check_in()
        cached = dict(server.app.state.identities._known)
        digest = wire.device_key_id(device.key.public_key())
        since = (datetime.now(UTC) - timedelta(days=2)).isoformat()
        denied = {"reason": "stolen", "compromised_since": since}
        await server.ok("PUT", f"/denied-keys/{digest}", json=denied)
        for method, path in ROUTES:
            server.app.state.identities._known.update(cached)  # as if the notification were lost
            message = device.check_in_message() if path == "check-in" else {"stream_id": "s1"}
            answer = await device.send(method, path, json.dumps(message).encode())
            assert (answer.status_code, answer.json()["code"]) == (403, "key_denied"), path
        server.app.state.identities._known.update(cached)
        assert (await bare(http, device)).json()["code"] == "key_denied"
        assert (await bare(http, device, "check-in")).json()["code"] == "key_denied"
    again = enrol_body(await new_token(server), device.key, "sn-1")
    assert (await server.http.post("/device/v1/enrol", json=again)).json()["code"] == "key_denied"
    listed = await server.ok("GET", "/denied-keys")
    assert [(one["device_id"], one["reason"]) for one in listed] == [(device.id, "stolen")]
    assert listed[0]["compromised_since"] is not None


async def test_f66_another_key_for_a_known_serial_is_decided_by_a_person(server: Server) -> None:
    device, _ = await enrol_with_certificate(server)
    new = new_key()
    token = await new_token(server)
    body = enrol_body(token, new, "sn-1") | {"csr_pem": csr(new)}
    for _ in range(2):
        answer = await server.http.post("/device/v1/enrol", json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "identity_conflict")
    await device.check_in()  # the old key is good until somebody decides
    [conflict] = await server.ok("GET", "/enrolment-conflicts")
    assert (conflict["device_id"], conflict["state"]) == (device.id, "pending")
    asked = (await server.ok("GET", "/reviews?state=open"))["items"]
    assert [review["kind"] for review in asked] == ["device.enrolment_conflict"]
    decision = f"/enrolment-conflicts/{conflict['id']}/decision"
    await server.ok("POST", decision, json={"accept": True, "reason": "board was replaced"})
    assert (await device.post("check-in", device.check_in_message())).status_code == 401
    answer = await server.http.post("/device/v1/enrol", json=body)
    assert (answer.status_code, answer.json()["device_id"]) == (201, device.id)
    replaced = Device(server.http, new, device.id, device.director)
    await replaced.check_in()
    old = enrol_body(await new_token(server), device.key, "sn-9")
    assert (await server.http.post("/device/v1/enrol", json=old)).json()["code"] == "key_denied"
    assert (await server.call("POST", decision, json={"accept": False, "reason": "x"})).status_code == 409


async def test_f66_a_rejected_key_stays_out(server: Server, device: Device) -> None:
    [serial] = await select(server, "select serial from fleet_device where id = :id", id=device.id)
    body = enrol_body(await new_token(server), new_key(), serial["serial"])
    assert (await server.http.post("/device/v1/enrol", json=body)).status_code == 409
    [conflict] = await server.ok("GET", "/enrolment-conflicts")
    decision = {"accept": False, "reason": "nobody replaced it"}
    await server.ok("POST", f"/enrolment-conflicts/{conflict['id']}/decision", json=decision)
    assert (await server.http.post("/device/v1/enrol", json=body)).status_code == 409
    await device.check_in()
    assert [one["state"] for one in await server.ok("GET", "/enrolment-conflicts")] == ["rejected"]


async def test_f67_no_route_gives_a_device_what_is_anothers(server: Server, device: Device) -> None:
    other = await enrol(server)
    announce = {
        "sha256": SHA,
        "size_bytes": 100,
        "trigger": "collision",
        "content_digest": "c" * 64,
        "started_at": "2026-01-01T00:00:00Z",
        "ended_at": "2026-01-01T00:00:10Z",
    }
    await device.post("recordings", announce)
    assert (await other.post(f"recordings/{SHA}/complete", {})).status_code == 404
    manifest = await other.check_in()
    assert manifest.device_id == other.id
    named = {"stream_id": "s1", "device_id": device.id}  # nothing in a body says whose it is
    assert (await other.post("telemetry", named)).status_code == 200
    streams = await select(server, "select device_id from telemetry_stream")
    assert all(one["device_id"] != device.id for one in streams)
    asked = json.dumps({"csr_pem": csr(device.key)}).encode()
    renewed = await other.send("POST", "renew", asked, signed=None, signed_path=None, **{"Fleetloop-Device": device.id})
    assert renewed.status_code == 401
    stolen = await other.post("renew", {"csr_pem": csr(device.key)})
    assert (stolen.status_code, stolen.json()["code"]) == (409, "identity_conflict")


async def test_renewal_by_certificate_by_signature_and_long_after(server: Server, tmp_path: Path) -> None:
    device, certificate = await enrol_with_certificate(server)
    context = client_context(server, tmp_path, device.key, certificate)
    async with device_port(server) as url, tls_client(url, context) as http:
        answer = await http.post("/device/v1/renew", json={"csr_pem": csr(device.key)})
        assert answer.status_code == 200, answer.text
        reply = wire.RenewReply.model_validate_json(answer.content)
        assert authority_of(server).judge(der_of(reply.certificate_pem), clock.now()).device_id == device.id
    for age_days, status in ((399, 200), (401, 403)):
        at = clock.now() - timedelta(days=age_days)
        await run(server, "update fleet_device set certificate_expires_at = :at", at=at)
        answer = await device.post("renew", {"csr_pem": csr(device.key)})
        assert answer.status_code == status, answer.text
    assert answer.json()["code"] == "certificate_too_old"


def der_of(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


async def test_a_fresh_key_takes_the_place_of_the_old_one(server: Server, tmp_path: Path) -> None:
    device, certificate = await enrol_with_certificate(server)
    fresh = new_key()
    assert (await device.post("renew", {"csr_pem": csr(fresh)})).status_code == 200
    context = client_context(server, tmp_path, device.key, certificate)
    async with device_port(server) as url, tls_client(url, context) as http:
        answer = await bare(http, device)
        assert (answer.status_code, answer.json()["code"]) == (401, "old_certificate")
    assert (await device.post("renew", {"csr_pem": csr(fresh)})).status_code == 401
    lost = Device(
        server.http, fresh, device.id, device.director
    )  # its answer was lost: it asks again, with the new key
    assert (await lost.post("renew", {"csr_pem": csr(fresh)})).status_code == 200
    await lost.check_in()


async def test_g72_headers_that_drip_are_cut_off(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tls.DeviceProtocol, "header_s", 0.5)
    async with device_port(server) as url:
        context = client_context(server, tmp_path)
        port = int(url.rsplit(":", 1)[1])
        for start in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            writer.write(start)
            await writer.drain()
            begun = asyncio.get_running_loop().time()
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await asyncio.wait_for(reader.readexactly(1), 5)
            assert asyncio.get_running_loop().time() - begun < 3
            writer.close()


async def test_a_server_certificate_is_not_taken_from_a_device(server: Server, tmp_path: Path) -> None:
    """A stolen device key must not be enough to play the server to other devices."""
    device, certificate = await enrol_with_certificate(server)
    found = x509.load_pem_x509_certificate(certificate.encode())
    assert found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value == x509.ExtendedKeyUsage(
        [ExtendedKeyUsageOID.CLIENT_AUTH]
    )
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]))
        .issuer_name(found.subject)
        .public_key(new_key().public_key())
        .serial_number(1)
        .not_valid_before(clock.now())
        .not_valid_after(clock.now() + timedelta(days=1))
        .sign(device.key, hashes.SHA256())
    )
    async with proxied(server, tmp_path) as http:
        header = escaped(forged.public_bytes(Encoding.PEM).decode())
        assert (await bare(http, device, **{HEADER: header})).status_code == 401
