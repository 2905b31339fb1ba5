"""Who is let in, and which check-ins are believed."""

import asyncio
import base64
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from control_plane.fleet.service import Identities
from control_plane.kit import clock
from tests.support.device import CLASS, Device, enrol_body, new_key, new_token, pem_of
from tests.support.rows import count, run, select
from tests.support.server import Server


@pytest.fixture(autouse=True)
async def _device_class(server: Server) -> None:
    await server.ok("PUT", f"/device-classes/{CLASS}", json={"title": "Cart"})


async def ask(server: Server, body: Any) -> tuple[int, dict[str, Any]]:
    answer = await server.http.post("/device/v1/enrol", json=body)
    return answer.status_code, answer.json()


async def test_a_token_lets_one_device_in_once(server: Server) -> None:
    token, key = await new_token(server), new_key()
    status, made = await ask(server, enrol_body(token, key, "sn-1"))
    assert status == 201
    again, same = await ask(server, enrol_body(token, key, "sn-1"))
    assert (again, same["device_id"]) == (201, made["device_id"])  # the first answer was lost
    status, refused = await ask(server, enrol_body(token, new_key(), "sn-2"))
    assert (status, refused["code"]) == (403, "enrolment_refused")
    assert await count(server, "fleet_device") == 1
    assert len((await server.ok("GET", f"/audit?subject={made['device_id']}"))["items"]) == 1


async def test_tokens_are_bound_and_expire(server: Server) -> None:
    bound = await new_token(server, site="north", serial="sn-1")
    for change in ({"site": "south"}, {"serial": "sn-9"}, {"device_class": "lorry"}):
        body = enrol_body(bound, new_key(), "sn-1") | change
        assert (await ask(server, body))[0] == 403, change
    assert (await ask(server, enrol_body("fle_" + "x" * 32, new_key(), "sn-1")))[0] == 403
    late = await new_token(server)
    await run(server, "update fleet_enrolment_token set expires_at = :at", at=clock.now() - timedelta(seconds=1))
    assert (await ask(server, enrol_body(late, new_key(), "sn-1")))[0] == 403
    assert await count(server, "fleet_device") == 0
    assert await select(server, "select 1 from fleet_enrolment_token where used_at is not null") == []


async def test_the_key_must_be_p256_and_held(server: Server) -> None:
    token, key = await new_token(server), new_key()
    weak = ec.generate_private_key(ec.SECP384R1())
    edwards = ed25519.Ed25519PrivateKey.generate().public_key()
    edwards_pem = edwards.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    other = base64.b64encode(der.replace(b"\x2a\x86\x48\xce\x3d\x03\x01\x07", b"\x2a\x86\x48\xce\x3d\x03\x01\x7f"))
    unknown_curve = f"-----BEGIN PUBLIC KEY-----\n{other.decode()}\n-----END PUBLIC KEY-----\n"
    refused = {
        "another's proof": (401, {"proof": enrol_body(token, new_key(), "sn-1")["proof"]}),
        "no base64": (401, {"proof": "%%"}),
        "P-384": (422, {"public_key_pem": pem_of(weak)}),
        "ed25519": (422, {"public_key_pem": edwards_pem}),
        "no key": (422, {"public_key_pem": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}),
        "unknown curve": (422, {"public_key_pem": unknown_curve}),
        "a serial with a space": (422, {"serial": "sn 1"}),
        "a short token": (422, {"token": "short"}),
    }
    for name, (status, change) in refused.items():
        assert (await ask(server, enrol_body(token, key, "sn-1") | change))[0] == status, name
    assert (await ask(server, enrol_body(token, key, "sn-1")))[0] == 201


async def test_malformed_enrolments_leave_the_token_unused(server: Server) -> None:
    token = await new_token(server)
    body = enrol_body(token, new_key(), "sn-1")
    for broken in (b"", b"[]", b'{"token": "a", "token": "b"}', b'{"token": NaN}', b"\xff"):
        answer = await server.http.post("/device/v1/enrol", content=broken)
        assert (answer.status_code, answer.json()["code"]) == (422, "malformed"), broken
    assert (await server.http.post("/device/v1/enrol", content=b" " * ((1 << 20) + 1))).status_code == 413
    assert (await ask(server, body | {"labels": {"a": "\x00"}}))[0] == 422
    assert (await ask(server, body | {"added_later": 1}))[0] == 201


async def test_a_serial_or_a_key_belongs_to_one_device(server: Server) -> None:
    key = new_key()
    assert (await ask(server, enrol_body(await new_token(server), key, "sn-1")))[0] == 201
    for taken_key, serial in ((key, "sn-2"), (new_key(), "sn-1")):
        status, refused = await ask(server, enrol_body(await new_token(server), taken_key, serial))
        assert (status, refused["code"]) == (409, "identity_conflict")
    assert await count(server, "fleet_device") == 1


async def test_one_serial_asked_for_twice_at_once_is_one_device(server: Server) -> None:
    bodies = [enrol_body(await new_token(server), new_key(), "sn-1") for _ in range(4)]
    statuses = sorted([status for status, _ in await asyncio.gather(*(ask(server, body) for body in bodies))])
    assert statuses == [201, 409, 409, 409]


async def test_a_replayed_check_in_is_refused(server: Server, device: Device) -> None:
    message = device.check_in_message(platform={"soc": "orin"})
    assert (await device.post("check-in", message)).status_code == 200
    again = await device.post("check-in", message)
    assert (again.status_code, again.json()["code"]) == (409, "replayed")
    older = await device.post("check-in", message | {"seq": 0, "platform": {"soc": "other"}})
    assert (older.status_code, older.json()["code"]) == (409, "replayed")
    assert (await server.ok("GET", f"/devices/{device.id}"))["platform"] == {"soc": "orin"}


async def test_a_boot_that_is_over_is_refused(device: Device) -> None:
    first = device.boot
    await device.check_in()
    device.boot, device.seq = "boot-2", 0
    await device.check_in()
    clone = await device.post("check-in", device.check_in_message(boot_id=first, seq=99))
    assert (clone.status_code, clone.json()["code"]) == (403, "old_boot")
    await device.check_in()


async def test_of_equal_check_ins_at_once_one_is_believed(server: Server, device: Device) -> None:
    message = device.check_in_message()
    answers = await asyncio.gather(*(device.post("check-in", message) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]
    seen = await select(server, "select last_seq from fleet_device where id = :id", id=device.id)
    assert seen == [{"last_seq": message["seq"]}]


async def test_the_counter_floor_never_falls(server: Server, device: Device) -> None:
    await device.check_in(counter_floor=7)
    await device.check_in(counter_floor=3)
    assert (await server.ok("GET", f"/devices/{device.id}"))["counter_floor"] == 7


async def test_the_manifest_is_for_this_check_in_only(device: Device) -> None:
    manifest = await device.check_in()  # signature, nonce, seq and device are checked in there
    assert manifest.order is None
    assert timedelta(0) < manifest.expires_at - manifest.issued_at <= timedelta(hours=1)
    assert abs((manifest.issued_at - clock.now()).total_seconds()) < 60


async def test_an_identity_read_before_it_changed_is_not_kept(server: Server, device: Device) -> None:
    identities = Identities()

    async def forgotten_meanwhile() -> None:
        async with server.context.database.transaction() as session:
            asked = asyncio.create_task(identities.of(session, device.id))
            await asyncio.sleep(0)
            identities.forget(device.id)
            await asked

    await forgotten_meanwhile()
    assert identities._known == {}
