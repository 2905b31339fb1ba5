"""What a stolen operator token, a hostile body and a hostile recording do to the server: cases G69-G77, H83, H84."""

import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from control_plane.kit.roles import Role
from control_plane.telemetry.domain.recording import RecordingError, inspect_recording
from tests.support import mcap
from tests.support.device import Device
from tests.support.registry import register, release
from tests.support.server import Server

EVIL = (
    "'; drop table fleet_device; --",
    "%' or 1=1 --",
    "%",
    "_",
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "\u202eexe",
    "a" * 5000,
)
FORGED = '{"payloadType":"x","payload":"","signatures":[{"keyid":"a","sig":"b"}]}'


async def test_g69_an_operators_token_alone_approves_and_publishes_nothing(server: Server) -> None:
    """Approvals are signatures, and the offline keys' work and new releases are not an operator's."""
    version = await register(server)
    made = await release(server, version["content_digest"])
    refused = [
        ("POST", "/attestations", {"envelope": FORGED}),
        ("POST", "/trust/offline", {"roots": []}),
        ("POST", "/trust/resume", None),
        ("POST", "/releases", {"content_digest": version["content_digest"], "device_classes": ["cart"], "reason": "x"}),
    ]  # fmt: skip
    for method, path, body in refused:
        answer = await server.call(method, path, Role.OPERATOR, json=body)
        assert answer.status_code in {403, 409, 422}, (path, answer.status_code, answer.text)
    item = await server.ok("GET", f"/releases/{made['digest']}")
    assert item["published_revision"] is None


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.ADMIN])
async def test_g69_only_an_admin_makes_tokens_and_takes_roots(server: Server, role: Role) -> None:
    for path, body in (("/tokens", {"name": "mine", "role": "admin"}), ("/trust/offline", {"roots": []})):
        answer = await server.call("POST", path, role, json=body)
        assert answer.status_code in {403, 404, 405}, (path, answer.text)


BODIES: dict[str, tuple[bytes, set[int]]] = {
    "nested": (b'{"name":' * 100_000 + b"1" + b"}" * 100_000, {400, 413, 422}),
    "nan": (b'{"title":NaN}', {400, 422}),
    "infinity": (b'{"title":"x","limits":Infinity}', {400, 422}),
    "long number": (b'{"title":' + b"9" * 20_000 + b"}", {400, 422}),
    "not utf-8": (b'{"title":"\xff"}', {400, 422}),
    "empty": (b"", {400, 422}),
    "a list": (b"[]", {400, 422}),
}


@pytest.mark.parametrize("kind", list(BODIES))
async def test_g74_bodies_that_are_no_json_are_refused(server: Server, kind: str) -> None:
    body, expected = BODIES[kind]
    answer = await server.call(
        "PUT", "/device-classes/evil", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in expected, answer.text
    assert (await server.call("GET", "/device-classes")).status_code == 200


async def test_g75_text_is_only_text(server: Server, device: Device) -> None:
    """Filters, names and ids from an attacker find nothing, break nothing and are answered as problems."""
    before = await server.ok("GET", "/devices")
    reading = [
        path for path, ways in server.app.openapi()["paths"].items() if path.startswith("/api/v1") and "get" in ways
    ]
    listed = [path for path in reading if "{" not in path]
    single = [path for path in reading if "{" in path]
    assert len(listed) + len(single) > 20, "these are all the reading routes"
    for evil in EVIL:
        for path in listed:
            names = ("model", "state", "site", "serial", "name", "cursor", "device_class", "role", "kind")
            answer = await server.call("GET", path.removeprefix("/api/v1"), params=dict.fromkeys(names, evil))
            assert answer.status_code < 500, (path, evil, answer.text)
        for path in single:
            filled = "/".join("x" if part.startswith("{") else part for part in path.split("/"))
            answer = await server.call("GET", filled.removeprefix("/api/v1").replace("/x", f"/{_quoted(evil)}"))
            assert answer.status_code < 500, (path, evil, answer.text)
    assert await server.ok("GET", "/devices") == before


def _quoted(text: str) -> str:
    return quote(text, safe="%")


def test_g76_the_server_asks_nobody_whom_a_user_names() -> None:
    """No fetch by URL: orchestrator, store and provider are named by settings, webhooks and exporters by admins.

    Where these may be is judged by the address that is connected to: test_webhooks.py, test_meters.py.
    """
    root = Path(__file__).parents[2] / "control_plane"
    homes = {"kit/objects/s3.py", "pipelines/reconcile/orchestrators.py", "client/awaiting.py", "client/blocking.py"}
    homes |= {"access/service/oidc.py", "webhooks/service/sending.py", "factory/reconcile.py"}
    callers = {
        f"{path.relative_to(root)}"
        for path in root.rglob("*.py")
        if any(
            word in path.read_text() for word in ("httpx.AsyncClient(", "httpx.Client(", "urlopen(", "requests.get(")
        )
    }
    assert {name for name in callers if not name.startswith("cli/")} <= homes, callers


PATHS = (
    "blobs/sha256/..%2f..%2fkeys.json",
    "blobs/sha256/" + "A" * 64,
    "blobs/sha256/" + "0" * 63,
    "tuf/..%2f..%2fkeys%2fkeys.json",
    "tuf/%00.json",
    "tuf/targets/..%2f..%2fx",
)


@pytest.mark.parametrize("path", PATHS)
async def test_g77_a_name_is_no_path(device: Device, path: str) -> None:
    answer = await device.send("GET", path)
    assert answer.status_code in {400, 404, 422}, answer.text
    assert b"PRIVATE" not in answer.content


READ = """
import resource, sys
from control_plane.telemetry.domain.recording import RecordingError, inspect_recording
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
data = open(sys.argv[1], "rb").read()
inspect_recording(open(sys.argv[2], "rb").read(), 64 << 20)
before = peak()
try:
    inspect_recording(data, 256 << 20)
    print("taken")
except RecordingError as error:
    print("refused", error)
print((peak() - before) << 10)
"""


def bombs() -> dict[str, bytes]:
    channels = b"".join(
        mcap.record(0x04, b"\x01\0\1\0" + mcap.text("t") + mcap.text("j") + b"\0" * 4) for _ in range(60_000)
    )
    return {
        "a chunk that lies": mcap.unsound(mcap.bomb(1000, 1 << 30)),
        "a frame that lies": mcap.unsound(mcap.lying_frame(100)),
        "a chunk that says so": mcap.unsound(mcap.bomb(1 << 40, 1 << 20)),
        "channels": mcap.unsound(mcap.chunk(channels * 20, len(channels) * 20, "")),
        "a giant record": mcap.unsound(mcap.record(0x0C, b"\xff" * (16 << 20)) * 2 + b"\x0c" + b"\xff" * 8),
    }


@pytest.mark.parametrize("kind", list(bombs()) if sys.platform == "linux" else [])
def test_h83_a_recording_that_unfolds_costs_little_memory(tmp_path: Path, kind: str) -> None:
    """Read in a process of its own, whose peak is looked at; mcap's own reader took 4 GB for one of these."""
    (tmp_path / "bomb.mcap").write_bytes(bombs()[kind])
    (tmp_path / "good.mcap").write_bytes(mcap.recording())
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "bomb.mcap"), str(tmp_path / "good.mcap")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said, more = done.stdout.strip().splitlines()
    assert said.startswith("refused"), said
    assert int(more) <= 64 << 20, f"{int(more) >> 20} MiB more"


def odd() -> dict[str, bytes]:
    good = mcap.recording(salt="odd", chunked=False)
    return {f"cut at {at}": good[:at] for at in range(0, len(good), max(1, len(good) // 40))}


def test_h84_a_recording_cut_anywhere_is_refused_and_nothing_else_is_raised() -> None:
    for name, data in odd().items():
        with pytest.raises(RecordingError):
            inspect_recording(data, 1 << 20)
        assert name
