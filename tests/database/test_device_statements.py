"""What devices swear to, kept as the bytes they sent (attack cases H 86 and 87)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from agents.protocol import v1 as wire
from tests.support.device import Device, enrol, new_key
from tests.support.rows import count, select
from tests.support.server import Server, open_server
from tests.support.statements import ANNOUNCE, report_of, sealed

STATEMENT = {key: value for key, value in ANNOUNCE.items() if key != "signed"}


def signed_announce(device: Device, by: Device | None = None, **changes: Any) -> dict[str, Any]:
    statement = wire.RecordingStatement.model_validate({"device_id": device.id} | STATEMENT | changes)
    return ANNOUNCE | {"signed": sealed(by or device, wire.RECORDING_PAYLOAD, statement)}


async def test_a_report_is_kept_as_the_bytes_that_came(server: Server, device: Device) -> None:
    body = json.dumps(sealed(device, wire.REPORT_PAYLOAD, report_of(device)), indent=2).encode()
    answers = [await device.send("POST", "reports", body) for _ in range(2)]  # the first answer was lost
    assert [answer.status_code for answer in answers] == [201, 201]
    digest = wire.ReportReply.model_validate_json(answers[0].content).envelope_sha256
    assert digest == hashlib.sha256(body).hexdigest()
    listed = await server.ok("GET", f"/device-statements?device_id={device.id}")
    assert [(one["sha256"], one["kind"], one["subject"]) for one in listed] == [(digest, "install-report", "d" * 64)]
    assert (await server.call("GET", f"/device-statements/{digest}")).content == body
    assert (await server.call("GET", f"/device-statements/{'0' * 64}")).status_code == 404
    assert (await server.http.get(f"/api/v1/device-statements/{digest}")).status_code == 401


async def test_a_report_is_said_once(server: Server, device: Device) -> None:
    report = report_of(device)
    await device.post("reports", sealed(device, wire.REPORT_PAYLOAD, report))
    other = report.model_copy(update={"deployment": report.deployment.model_copy(update={"reason": "other"})})
    answer = await device.post("reports", sealed(device, wire.REPORT_PAYLOAD, other))
    assert (answer.status_code, answer.json()["code"]) == (409, "report_changed")
    assert await count(server, "fleet_statement") == 1


def bad_reports(device: Device, other: Device) -> dict[str, Any]:
    good, report = sealed(device, wire.REPORT_PAYLOAD, report_of(device)), report_of(device)
    stranger = Device(device.http, new_key(), device.id, device.director)
    return {
        "another's key": sealed(stranger, wire.REPORT_PAYLOAD, report),
        "of another device": sealed(other, wire.REPORT_PAYLOAD, report_of(other)),
        "about another device": sealed(device, wire.REPORT_PAYLOAD, report_of(other)),
        "another type": sealed(device, wire.RECORDING_PAYLOAD, report),
        "type changed after signing": good | {"payloadType": wire.RECORDING_PAYLOAD},
        "payload changed after signing": good
        | {"payload": sealed(device, wire.REPORT_PAYLOAD, report)["payload"][:-4]},
        "no signature that fits": good | {"signatures": [{"keyid": "0" * 64, "sig": good["signatures"][0]["sig"]}]},
        "not base64": good | {"payload": "%%%"},
        "signature cut": good | {"signatures": [good["signatures"][0] | {"sig": good["signatures"][0]["sig"][:-8]}]},
        "something else": sealed(device, wire.REPORT_PAYLOAD, wire.Signature(keyid="a", sig="b")),
        "no signatures": good | {"signatures": []},
        "too many signatures": good | {"signatures": good["signatures"] * 17},
    }


async def test_h86_a_report_that_its_device_did_not_sign_is_refused(server: Server, device: Device) -> None:
    other = await enrol(server)
    for name, envelope in bad_reports(device, other).items():
        answer = await device.post("reports", envelope)
        assert answer.status_code == 422, (name, answer.text)
        assert answer.json()["code"] in ("bad_statement", "malformed"), name
    assert await count(server, "fleet_statement") == 0


async def test_h86_a_recording_whose_statement_says_something_else_is_refused(server: Server, device: Device) -> None:
    other = await enrol(server)
    wrong = {
        "other bytes": signed_announce(device, sha256="b" * 64),
        "another size": signed_announce(device, size_bytes=101),
        "another model": signed_announce(device, content_digest="e" * 64),
        "another event": signed_announce(device, event_id="ev-other"),
        "another time": signed_announce(device, started_at="2026-01-01T00:00:01Z"),
        "announcement changed": signed_announce(device) | {"trigger": "stuck"},
    }
    for name, announce in wrong.items():
        answer = await device.post("recordings", announce)
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_statement"), (name, answer.text)
    # Case 87: signed by one device, sent by another.
    answer = await other.post("recordings", signed_announce(device))
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_statement")
    answer = await other.post("recordings", signed_announce(device, by=other))
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_statement")
    assert await count(server, "telemetry_recording") == 0
    assert await count(server, "fleet_statement") == 0


async def test_h87_a_recording_is_one_devices_and_may_be_announced_again(server: Server, device: Device) -> None:
    for _ in range(2):
        answer = await device.post("recordings", signed_announce(device))
        assert answer.status_code in (200, 201), answer.text
    kept = await select(server, "select device_id, kind, subject from fleet_statement")
    assert kept == [{"device_id": device.id, "kind": "recording", "subject": ANNOUNCE["sha256"]}]


async def test_where_statements_are_required_nothing_comes_without(database_url: str, tmp_path: Path) -> None:
    async with open_server(database_url, tmp_path, require_signed=True) as server:
        device = await enrol(server)
        answer = await device.post("recordings", ANNOUNCE)
        assert (answer.status_code, answer.json()["code"]) == (422, "bad_statement")
        assert (await device.post("recordings", signed_announce(device))).status_code in (200, 201)


@pytest.mark.parametrize("payload", [b'{"device_id": "a", "device_id": "b"}', b'{"x": NaN}', b"\xff", b"[" * 3000])
async def test_what_is_signed_is_read_as_strictly_as_anything(server: Server, device: Device, payload: bytes) -> None:
    envelope = sealed(device, wire.REPORT_PAYLOAD, payload)
    answer = await device.post("reports", envelope)
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed")
