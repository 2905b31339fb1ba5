import stat
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from agents.link import (
    Backoff,
    BlobStore,
    DeviceClient,
    Enrolment,
    Identity,
    LinkError,
    enrol,
)
from agents.link.identity import load_key
from agents.protocol.v1 import TelemetryBatch, TelemetryReply
from agents.sdk import StateDir
from tests.agent.server import FleetServer

BATCH = TelemetryBatch(stream_id="s-1").model_dump_json().encode()
EVENT = b'{"seq":3,"event_id":"e","kind":"stuck","content_digest":"%s","at":"2026-01-01T00:00:00Z"}' % (b"a" * 64)
FULL = b'{"stream_id":"s-1","events":[' + EVENT + b"]}"


@pytest.fixture
def blobs(state: StateDir) -> BlobStore:
    return BlobStore(state.blobs)


async def test_enrolment_leaves_a_private_key_and_a_public_description(identity: Identity, state: StateDir) -> None:
    assert identity.device_id == "d-7"
    assert stat.S_IMODE((state.private / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((state.private / "identity.json").stat().st_mode) == 0o600
    assert b"token" not in state.device_json.read_bytes()
    assert Identity.load(state) == identity


async def test_a_refused_enrolment_leaves_no_device(
    server: FleetServer, http: httpx.AsyncClient, state: StateDir
) -> None:
    wish = Enrolment(
        server=server.url, token=SecretStr("used" + "t" * 20), serial="1", device_class="test", site="hall"
    )
    with pytest.raises(LinkError, match="used up"):
        await enrol(http, state, wish)
    assert not state.device_json.exists()


async def test_enrolling_again_after_a_lost_answer_uses_the_same_key(
    server: FleetServer, http: httpx.AsyncClient, state: StateDir
) -> None:
    before = load_key(state).public_pem
    wish = Enrolment(server=server.url, token=SecretStr("t" * 20), serial="1", device_class="test", site="hall")
    await enrol(http, state, wish)
    assert before.encode() in server.requests[-1].body.replace(b"\\n", b"\n")


async def test_requests_are_signed_and_an_altered_one_is_not_taken(
    server: FleetServer, client: DeviceClient, http: httpx.AsyncClient
) -> None:
    reply = await client.post("telemetry", FULL, TelemetryReply)
    assert reply.acknowledged_seq == 3
    headers = {name: value for name, value in server.requests[-1].headers.items() if name.startswith("fleetloop")}
    altered = await http.post(f"{server.url}/device/v1/telemetry", content=FULL + b" ", headers=headers)
    assert altered.status_code == 401


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("duplicate_key", "bad_answer"),
        ("nan", "bad_answer"),
        ("giant", "too_large"),
        ("gzip", "content_encoding"),
        ("500", "server_error"),
    ],
)
async def test_an_answer_that_must_not_be_believed(
    server: FleetServer, client: DeviceClient, fault: str, reason: str
) -> None:
    server.faults.add(fault)
    with pytest.raises(LinkError) as failure:
        await client.post("telemetry", FULL, TelemetryReply)
    assert failure.value.reason == reason
    assert failure.value.retry_after_s == (1.0 if fault == "500" else None)


async def test_nobody_there(http: httpx.AsyncClient, state: StateDir) -> None:
    client = DeviceClient(http, "http://127.0.0.1:9", load_key(state), "d-1")
    with pytest.raises(LinkError) as failure:
        await client.post("telemetry", BATCH, TelemetryReply)
    assert failure.value.reason == "server_unreachable"


def test_an_address_may_not_fall_from_https_to_http(http: httpx.AsyncClient, state: StateDir) -> None:
    client = DeviceClient(http, "https://fleet.example/base", load_key(state), "d-1")
    assert str(client.resolve("/put/1")) == "https://fleet.example/put/1"
    assert str(client.route("check-in")) == "https://fleet.example/base/device/v1/check-in"
    for address in ("http://fleet.example/put/1", "file:///etc/passwd"):
        with pytest.raises(LinkError):
            client.resolve(address)


def test_collecting_keeps_what_is_wanted(blobs: BlobStore, tmp_path: Path) -> None:
    blobs.prepare()
    for digest in ("aa1", "aa2", "bb1"):
        blobs.partial(digest).write_bytes(b"x")
        blobs.keep(digest)
    blobs.partial("cc1").write_bytes(b"x")
    assert blobs.collect({"aa2"}) == 3
    assert blobs.has("aa2", 1)


def test_waiting_grows_is_spread_and_listens_to_the_server() -> None:
    backoff = Backoff(1.0, 8.0)
    waits = [backoff.failed() for _ in range(20)]
    assert max(waits) <= 8.0
    assert min(waits) >= 0.1
    assert len(set(waits)) > 10
    assert backoff.failed(retry_after_s=100.0) >= 100.0
    assert backoff.failed(retry_after_s=1e9) <= 3600 + 8
    assert 0.19 <= backoff.spread(0.0) <= 0.21
