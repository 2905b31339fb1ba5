"""A control plane in one ASGI function, with a switch for every way it can go wrong.

It keeps what devices sent, in lists that tests read. `faults` is a set of names; each is one misbehaviour.
"""

import asyncio
import base64
import contextlib
import gzip
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from agents.protocol.v1 import (
    DIRECTOR_PAYLOAD,
    CheckIn,
    DirectorManifest,
    EnrolRequest,
    Envelope,
    ReleaseManifest,
    ReleaseOrder,
    TelemetryBatch,
    canonical_json,
    enrol_proof,
    seal_envelope,
    sha256_hex,
    signing_input,
    strict_json,
)
from agents.protocol.v1.admission import bundle_bytes
from agents.protocol.v1.trust import Revocations, attestations_path, release_path
from tests.support.trust import MEDIA, Ring, public_hex, vouched
from tests.support.tuf_repository import TufRepository

Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class FleetServer:
    """`ring` holds the keys of all who vouch; whatever release is put here is vouched for, unless in `unvouched`."""

    ring: Ring = field(default_factory=Ring)
    tuf: TufRepository = field(default_factory=TufRepository)
    policy: dict[str, Any] = field(default_factory=dict)
    revocations: Revocations | None = None
    vouches: dict[str, list[Envelope]] = field(default_factory=dict)
    releases: dict[str, bytes] = field(default_factory=dict)
    faults: set[str] = field(default_factory=set)
    blobs: dict[str, bytes] = field(default_factory=dict)
    order: ReleaseOrder | None = None
    orders: dict[str, ReleaseOrder | None] = field(default_factory=dict)
    period_s: float = 0.2
    next_batch_s: float = 0.1
    life_s: float = 3600.0
    cut_after: int = 1000
    recording_state: str = "wanted"
    refused: set[str] = field(default_factory=set)
    devices: dict[str, ec.EllipticCurvePublicKey] = field(default_factory=dict)
    serials: dict[str, str] = field(default_factory=dict)
    check_ins: list[CheckIn] = field(default_factory=list)
    by_device: dict[str, CheckIn] = field(default_factory=dict)
    batches: list[TelemetryBatch] = field(default_factory=list)
    seen: dict[tuple[str, int], Any] = field(default_factory=dict)
    announced: list[str] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    served_bytes: int = 0
    replay: bytes | None = None
    url: str = ""

    @property
    def director(self) -> Ed25519PrivateKey:
        return self.ring.director

    def put(self, data: bytes) -> str:
        digest = sha256_hex(data)
        self.blobs[digest] = data
        return digest

    def put_release(self, data: bytes, envelopes: list[Envelope] | None = None) -> str:
        """List a release with its attestations, all of them unless others are given."""
        digest = self.put(data)
        manifest = ReleaseManifest.model_validate_json(data)
        self.releases[digest] = data
        self.vouches[digest] = vouched(self.ring, manifest, device_class="test") if envelopes is None else envelopes
        self.publish()
        return digest

    def publish(self) -> None:
        listed = {release_path(digest): data for digest, data in self.releases.items()}
        bundles = {attestations_path(digest): bundle_bytes(lines) for digest, lines in self.vouches.items()}
        policy = self.ring.policy(**{"media_types": ("x", *MEDIA), "version": 1, **self.policy})
        self.tuf.show(policy, self.revocations, listed | bundles)
        for data in self.tuf.blobs():
            self.put(data)

    @property
    def revision(self) -> int:
        return self.tuf.versions["timestamp"]

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Any], send: Send) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        target = scope["raw_path"].decode() + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")
        request = Request(scope["method"], target, headers, body)
        self.requests.append(request)
        await self._answer(request, send)

    async def _answer(self, request: Request, send: Send) -> None:
        route = request.path.split("?")[0].removeprefix("/device/v1/")
        if "500" in self.faults:
            await _send(send, 503, b"down", {"retry-after": "1"})
        elif route == "enrol":
            await self._enrol(request, send)
        elif route.startswith("/put/"):
            self.uploads[route.removeprefix("/put/")] = request.body
            await _send(send, 200, b"")
        elif route.startswith("tuf/"):
            found = self.tuf.metadata(route.removeprefix("tuf/"))
            await _send(send, 404 if found is None else 200, found or b"none")
        elif not self._signed(request):
            await _send(send, 401, b"bad signature")
        elif route.startswith("blobs/sha256/"):
            await self._blob(request, route.rsplit("/", 1)[1], send)
        else:
            await self._json(send, self._posted(route, request))

    def _posted(self, route: str, request: Request) -> dict[str, Any] | int:
        if route == "check-in":
            return self._check_in(request)
        if route == "telemetry":
            return self._telemetry(request.body)
        if route == "recordings":
            return self._announce(request.body)
        if route.startswith("recordings/"):
            sha256 = route.split("/")[1]
            good = sha256_hex(self.uploads.get(sha256, b"")) == sha256
            return {"state": "have" if good else "wanted", "reason": ""}
        return 404

    async def _json(self, send: Send, value: dict[str, Any] | int) -> None:
        if isinstance(value, int):
            await _send(send, value, b"no")
            return
        data = canonical_json(value)
        if "duplicate_key" in self.faults:
            data = data[:-1] + b',"next_check_in_s":1,"next_check_in_s":2,"next_batch_s":1,"next_batch_s":1}'
        if "nan" in self.faults:
            data = data[:-1] + b',"extra":NaN}'
        if "giant" in self.faults:
            data = b'{"x":"' + b"x" * (2 << 20) + b'"}'
        headers = {"content-type": "application/json"}
        if "gzip" in self.faults:
            data, headers["content-encoding"] = gzip.compress(data), "gzip"
        await _send(send, 200, data, headers)

    async def _enrol(self, request: Request, send: Send) -> None:
        wish = EnrolRequest.model_validate(strict_json(request.body, 1 << 20))
        key = load_pem_public_key(wish.public_key_pem.encode())
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(base64.b64decode(wish.proof), enrol_proof(wish.token, wish.public_key_pem), ec.ECDSA(SHA256()))
        if wish.token.startswith("used"):
            await _send(send, 403, b"the token is used up")
            return
        device_id = f"d-{wish.serial}"
        self.devices[device_id], self.serials[device_id] = key, wish.serial
        if not self.tuf.files:
            self.publish()
        reply = {
            "device_id": device_id,
            "director_keys": [public_hex(self.director)],
            "trust_root": self.tuf.root.decode(),
            "next_check_in_s": self.period_s,
        }
        await self._json(send, reply)

    def _signed(self, request: Request) -> bool:
        key = self.devices.get(request.headers.get("fleetloop-device", ""))
        if key is None:
            return False
        data = signing_input(request.method, request.path, request.body)
        try:
            key.verify(base64.b64decode(request.headers["fleetloop-signature"]), data, ec.ECDSA(SHA256()))
        except (InvalidSignature, KeyError):
            return False
        return True

    def _check_in(self, request: Request) -> dict[str, Any]:
        check_in = CheckIn.model_validate(strict_json(request.body, 1 << 20))
        device_id = request.headers["fleetloop-device"]
        self.check_ins.append(check_in)
        self.by_device[device_id] = check_in
        payload = self._manifest(device_id, check_in)
        if "replay" in self.faults and self.replay is not None:
            payload = self.replay
        self.replay = self.replay or payload
        key = Ed25519PrivateKey.generate() if "wrong_key" in self.faults else self.director
        kind = "application/other" if "wrong_type" in self.faults else DIRECTOR_PAYLOAD
        envelope = seal_envelope(kind, payload, [key]).model_dump(by_alias=True)
        return {"manifest": envelope, "next_check_in_s": self.period_s}

    def _manifest(self, device_id: str, check_in: CheckIn) -> bytes:
        now = datetime.now(UTC) - timedelta(days=3000 if "old_clock" in self.faults else 0)
        manifest = DirectorManifest(
            device_id="d-other" if "other_device" in self.faults else device_id,
            nonce="x" * 32 if "wrong_nonce" in self.faults else check_in.nonce,
            seq=1 if "old_seq" in self.faults else check_in.seq,
            issued_at=now,
            expires_at=now + timedelta(seconds=-1 if "expired" in self.faults else self.life_s),
            revision=self.revision,
            order=self.orders.get(device_id, self.order),
        )
        return manifest.model_dump_json(by_alias=True).encode()

    def _telemetry(self, body: bytes) -> dict[str, Any] | int:
        batch = TelemetryBatch.model_validate(strict_json(body, 1 << 20))
        items = sorted((*batch.windows, *batch.events), key=lambda each: each.seq)
        if any("poison" in getattr(each, "details", {}) for each in items):
            return 422
        self.batches.append(batch)
        if "ack_nothing" in self.faults:
            return {"acknowledged_seq": -1, "accepted": 0, "duplicates": 0, "next_batch_s": self.next_batch_s}
        fresh = [each for each in items if (batch.stream_id, each.seq) not in self.seen]
        self.seen.update({(batch.stream_id, each.seq): each for each in fresh})
        if "lose_answer" in self.faults:
            return 500
        return {
            "acknowledged_seq": items[-1].seq, "accepted": len(fresh),
            "duplicates": len(items) - len(fresh), "next_batch_s": self.next_batch_s,
        }  # fmt: skip

    def _announce(self, body: bytes) -> dict[str, Any] | int:
        sha256 = json.loads(body)["sha256"]
        if sha256 in self.refused:
            return 422
        self.announced.append(sha256)
        # By another name the same server is another origin.
        elsewhere = self.url.replace("127.0.0.1", "localhost")
        url = f"{elsewhere}/put/{sha256}" if "absolute" in self.faults else f"/put/{sha256}"
        return {"state": self.recording_state, "reason": "because", "upload_url": url}

    async def _blob(self, request: Request, digest: str, send: Send) -> None:
        data = self.blobs.get(digest)
        if data is None:
            await _send(send, 404, b"no such blob")
            return
        if "wrong_digest" in self.faults:
            data = bytes([data[0] ^ 1]) + data[1:]
        if "too_long" in self.faults:
            await _chunked(send, [data, b"and more"])
            return
        if "gzip" in self.faults:
            await _send(send, 200, gzip.compress(data), {"content-encoding": "gzip"})
            return
        start = self._start(request)
        part, status, headers = data[start:], (206 if start else 200), {"content-length": str(len(data) - start)}
        if start:
            first = start + 1 if "wrong_range" in self.faults else start
            headers["content-range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        await self._send_blob(send, status, headers, part)

    def _start(self, request: Request) -> int:
        wanted = request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-")
        return 0 if "range_ignored" in self.faults else int(wanted)

    async def _send_blob(self, send: Send, status: int, headers: dict[str, str], part: bytes) -> None:
        if "truncated" in self.faults and len(part) > self.cut_after:
            # Fewer bytes than announced: uvicorn then closes the connection.
            self.served_bytes += self.cut_after
            await _start(send, status, headers)
            await send({"type": "http.response.body", "body": part[: self.cut_after], "more_body": True})
            await asyncio.sleep(0.05)
            raise ConnectionAbortedError("cut on purpose")
        self.served_bytes += len(part)
        if "slow" in self.faults:
            await _start(send, status, headers)
            with contextlib.suppress(Exception):
                for at in range(len(part)):
                    await send({"type": "http.response.body", "body": part[at : at + 1], "more_body": True})
                    await asyncio.sleep(0.02)
            return
        await _send(send, status, part, headers)


async def _start(send: Send, status: int, headers: dict[str, str]) -> None:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})


async def _send(send: Send, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    await _start(send, status, {"content-length": str(len(body)), **(headers or {})})
    await send({"type": "http.response.body", "body": body})


async def _chunked(send: Send, parts: list[bytes]) -> None:
    await _start(send, 200, {})
    for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


class Door:
    """One listening address for many tests: it passes every request on to the present server."""

    def __init__(self) -> None:
        self.behind: FleetServer | None = None

    async def __call__(self, scope: dict[str, Any], receive: Callable[[], Any], send: Send) -> None:
        assert self.behind is not None
        await self.behind(scope, receive, send)


@contextlib.contextmanager
def served(app: FleetServer | Door) -> Iterator[str]:
    """Serve on a real socket from a thread of its own, so that agents in other processes can reach it."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
    program = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(program.serve([listener])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        program.should_exit = True
        thread.join(5)
        listener.close()
