"""A device without an agent: a P-256 key that enrols, signs and tells the control plane whatever a test wants told."""

import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agents.protocol import v1 as wire
from tests.support.server import Server

CLASS = "cart"
CONTENT = "c" * 64


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> str:
    return base64.b64encode(key.sign(data, ec.ECDSA(hashes.SHA256()))).decode()


def window(seq: int, content: str = CONTENT, distance_m: float = 100.0, **counts: int) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "seq": seq,
        "content_digest": content,
        "started_at": (now - timedelta(seconds=10)).isoformat(),
        "ended_at": now.isoformat(),
        "distance_m": distance_m,
        "duration_s": 10.0,
        "decisions": 100,
        "energy_j": 5.0,
        "counts": counts,
        "latency_p50_ms": 1.0,
        "latency_p99_ms": 2.0,
    }


def event(seq: int, kind: str = "collision", content: str = CONTENT, **changes: Any) -> dict[str, Any]:
    made = {"seq": seq, "event_id": f"ev-{uuid4().hex[:12]}", "kind": kind, "content_digest": content}
    return made | {"at": datetime.now(UTC).isoformat(), "details": {}} | changes


@dataclass
class Device:
    http: httpx.AsyncClient
    key: ec.EllipticCurvePrivateKey
    id: str
    director: Ed25519PublicKey
    boot: str = field(default_factory=lambda: f"boot-{uuid4().hex[:8]}")
    seq: int = 0
    spooled: int = 0
    active: dict[str, Any] | None = None
    deployment: dict[str, Any] | None = None
    floor: int = 0

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        signed: bytes | None = None,
        signed_path: str | None = None,
        **headers: str,
    ) -> httpx.Response:
        target = f"/device/v1/{path}"
        proof = wire.signing_input(method, signed_path or target, body if signed is None else signed)
        own = {"Fleetloop-Device": self.id, "Fleetloop-Signature": sign(self.key, proof)} | headers
        return await self.http.request(method, target, content=body, headers=own)

    async def post(self, path: str, message: Any) -> httpx.Response:
        return await self.send("POST", path, json.dumps(message).encode())

    def check_in_message(self, **changes: Any) -> dict[str, Any]:
        self.seq += 1
        return {
            "boot_id": self.boot,
            "seq": self.seq,
            "nonce": uuid4().hex,
            "sent_at": datetime.now(UTC).isoformat(),
            "agent_version": "0.1.0",
            "active": self.active,
            "deployment": self.deployment,
            "counter_floor": self.floor,
        } | changes

    async def check_in(self, **changes: Any) -> wire.DirectorManifest:
        """Check in; return the manifest once its signature, nonce, seq and device are right."""
        message = self.check_in_message(**changes)
        answer = await self.post("check-in", message)
        assert answer.status_code == 200, answer.text
        reply = wire.CheckInReply.model_validate_json(answer.content)
        trusted = {wire.key_id(self.director): self.director}
        payload = wire.open_envelope(reply.manifest, wire.DIRECTOR_PAYLOAD, trusted)
        manifest = wire.DirectorManifest.model_validate_json(payload)
        assert (manifest.device_id, manifest.nonce, manifest.seq) == (self.id, message["nonce"], message["seq"])
        return manifest

    async def telemetry(self, *, windows: Any = (), events: Any = (), stream: str = "s1") -> httpx.Response:
        return await self.post("telemetry", {"stream_id": stream, "windows": windows, "events": events})

    async def drive(self, distance_m: float = 100.0, **counts: int) -> None:
        """Report one window with the content this device runs."""
        content = self.active["content_digest"] if self.active else CONTENT
        answer = await self.telemetry(windows=[window(self.spooled, content, distance_m, **counts)])
        assert answer.status_code == 200, answer.text
        self.spooled += 1

    async def obey(self, contents: dict[str, str], phase: str = "committed") -> wire.ReleaseOrder | None:
        """Check in, do as told, and report it; `contents` maps release digests to content digests."""
        order = (await self.check_in()).order
        if order is None or (self.deployment and self.deployment["release_digest"] == order.release_digest):
            return order
        if phase == "committed":
            self.active = {
                "release_digest": order.release_digest,
                "content_digest": contents[order.release_digest],
                "counter": order.counter,
            }
            self.floor = max(self.floor, order.counter)
        self.deployment = report(order, phase)
        await self.check_in()
        return order


def report(order: wire.ReleaseOrder, phase: str, **changes: Any) -> dict[str, Any]:
    return {
        "release_digest": order.release_digest,
        "counter": order.counter,
        "rollout_id": order.rollout_id,
        "phase": phase,
    } | changes


def enrol_body(token: str, key: ec.EllipticCurvePrivateKey, serial: str, **changes: Any) -> dict[str, Any]:
    pem = pem_of(key)
    return {
        "token": token,
        "public_key_pem": pem,
        "proof": sign(key, wire.enrol_proof(token, pem)),
        "serial": serial,
        "device_class": CLASS,
        "site": "north",
        "labels": {},
        "agent_version": "0.1.0",
    } | changes


async def new_token(server: Server, **changes: Any) -> str:
    body = {"device_class": CLASS} | changes
    return str((await server.ok("POST", "/enrolment-tokens", json=body))["token"])


async def enrol(server: Server, serial: str | None = None, site: str = "north", http: Any = None) -> Device:
    await server.ok("PUT", f"/device-classes/{CLASS}", json={"title": "Cart"})
    key, http = new_key(), http or server.http
    body = enrol_body(await new_token(server), key, serial or f"sn-{uuid4().hex[:10]}", site=site)
    answer = await http.post("/device/v1/enrol", json=body)
    assert answer.status_code == 201, answer.text
    reply = wire.EnrolReply.model_validate_json(answer.content)
    director = Ed25519PublicKey.from_public_bytes(bytes.fromhex(reply.director_keys[0]))
    return Device(http, key, reply.device_id, director)
