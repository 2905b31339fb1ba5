"""What benches stand on: an installation of our own, devices that sign ahead, programs that end with us."""

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection
from typing import Any
from uuid import uuid4

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agents.protocol import v1 as wire
from control_plane.cli.stack import Stack, StackOptions
from control_plane.client import Client
from control_plane.fleet.schemas import DeviceClassPut, EnrolmentTokenCreate

CLASS = "bench"
CONTENT = "c" * 64


@contextmanager
def installation(*, worker: bool = False, devices: bool = False, **options: Any) -> Iterator[Stack]:
    """Start PostgreSQL, an API process and (if asked for) the devices' and a worker in a folder that vanishes."""
    with tempfile.TemporaryDirectory(prefix="fleetloop-bench-") as home:
        stack = Stack(StackOptions(Path(home), **({"orchestrator": "none", "device_rate_per_s": 1e6} | options)))
        try:
            stack.start()
            for name, wanted in (("worker", worker), ("devices", devices)):
                if not wanted:
                    stack.supervisor.stop(name)
            yield stack
        finally:
            stack.stop()


def client_of(stack: Stack, role: str = "admin") -> Client:
    return Client(stack.url, stack.tokens[role])


def listens(port: int) -> bool:
    try:
        create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def wait_until(true: Callable[[], bool], name: str, seconds: float) -> None:
    """Return once it is true.

    Raises:
        RuntimeError: it does not come true in time.
    """
    give_up_s = time.monotonic() + seconds
    while not true():
        if time.monotonic() > give_up_s:
            raise RuntimeError(f"{name} does not become ready")
        time.sleep(0.05)


@contextmanager
def program(module: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a Python module that ends with the block; stdin and stdout are ours.

    FLEETLOOP_BENCH_AGENT names an installed `fleetloop-agent` to measure in place of the checkout's: in an environment
    with its own six dependencies it carries less than in one that also holds a server's.
    """
    agent = os.environ.get("FLEETLOOP_BENCH_AGENT") if module == "agents.main" else None
    command = [agent, *arguments] if agent else [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@dataclass(frozen=True, slots=True)
class Device:
    id: str
    key: ec.EllipticCurvePrivateKey

    def request(self, method: str, target: str, body: bytes) -> bytes:
        """Return a signed request as it goes over the wire."""
        signed = self.key.sign(wire.signing_input(method, target, body), ec.ECDSA(hashes.SHA256()))
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            f"Fleetloop-Device: {self.id}\r\nFleetloop-Signature: {base64.b64encode(signed).decode()}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def enrol(stack: Stack, count: int) -> list[Device]:
    client = client_of(stack)
    client.put_device_class(CLASS, DeviceClassPut(title="bench"))
    with httpx.Client(base_url=stack.url, timeout=30) as http:
        return [_enrol(client, http) for _ in range(count)]


def _enrol(client: Client, http: httpx.Client) -> Device:
    token = client.create_enrolment_token(EnrolmentTokenCreate(device_class=CLASS)).token
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    proof = base64.b64encode(key.sign(wire.enrol_proof(token, pem), ec.ECDSA(hashes.SHA256()))).decode()
    body = {
        "token": token,
        "public_key_pem": pem,
        "proof": proof,
        "serial": f"sn-{uuid4().hex[:12]}",
        "device_class": CLASS,
        "site": "north",
        "agent_version": "0.1.0",
    }
    answer = http.post("/device/v1/enrol", json=body).raise_for_status()
    return Device(str(answer.json()["device_id"]), key)


def dumps(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()
