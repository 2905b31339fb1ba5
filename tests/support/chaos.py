"""Two API processes and two workers on one database, all of which may be killed; devices that do not mind."""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agents.protocol import v1 as wire
from control_plane.cli.bootstrap import make_tokens
from control_plane.cli.processes import Program, Supervisor, free_port
from control_plane.kit.certificates import load_authority
from control_plane.kit.embedded import EmbeddedPostgres
from control_plane.kit.roles import Role
from control_plane.kit.signing import load_secret, load_signer
from control_plane.migrations.upgrade import upgrade
from tests.support.device import CLASS, Device, enrol_body, new_key, new_token, report, window
from tests.support.identity import csr
from tests.support.server import Server

PATIENCE_S = 60.0
PAUSE_S = 0.1
PROGRAMS = ("api-1", "api-2", "worker-1", "worker-2")


class Either:
    """An HTTP client that asks one server or the other until one of them answers for good."""

    def __init__(self, clients: list[httpx.AsyncClient], rng: random.Random) -> None:
        self._clients = clients
        self._rng = rng
        self.troubles = 0

    async def request(self, method: str, target: str, **values: Any) -> httpx.Response:
        give_up = time.monotonic() + PATIENCE_S
        if method == "POST":  # whoever does not know whether it was done asks again by the same key
            values["headers"] = {"Idempotency-Key": uuid4().hex} | values.get("headers", {})
        while True:
            try:
                answer = await self._rng.choice(self._clients).request(method, target, **values)
                if answer.status_code != 503:
                    return answer
            except httpx.TransportError as error:
                if time.monotonic() > give_up:
                    raise TimeoutError(f"nobody answers {method} {target}") from error
            self.troubles += 1
            await asyncio.sleep(PAUSE_S)

    async def put(self, target: str, **values: Any) -> httpx.Response:
        return await self.request("PUT", target, **values)

    async def post(self, target: str, **values: Any) -> httpx.Response:
        return await self.request("POST", target, **values)

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()


@dataclass
class Plant:
    """The processes, and how to ask them."""

    home: Path
    url: str
    supervisor: Supervisor
    server: Server
    devices_http: Either
    rng: random.Random
    metrics_ports: dict[str, int]
    killed: dict[str, int] = field(default_factory=dict)
    """How often each was killed or restarted."""

    async def restart_in_turn(self, pause_s: float, stop: asyncio.Event) -> None:
        """End one of the four as an operator does, see it back, go on with the next; whole turns only."""
        while not stop.is_set():
            for name in PROGRAMS:
                await asyncio.sleep(pause_s)
                await self._restart(name)

    async def _restart(self, name: str) -> None:
        pid, starts = self.supervisor.pid(name), self.supervisor.starts(name)
        if pid is None:
            raise RuntimeError(f"{name} does not run")
        os.kill(pid, signal.SIGTERM)
        give_up = time.monotonic() + PATIENCE_S
        while self.supervisor.starts(name) == starts or not await _is_ready(self.metrics_ports[name]):
            if time.monotonic() > give_up:
                raise TimeoutError(f"{name} does not come back")
            await asyncio.sleep(PAUSE_S)
        self.killed[name] = self.killed.get(name, 0) + 1

    async def kill_at_random(self, every_s: tuple[float, float], stop: asyncio.Event) -> None:
        """Kill -9 one of the four, again and again; its supervisor starts it anew."""
        while not stop.is_set():
            name = self.rng.choice(PROGRAMS)
            pid = self.supervisor.pid(name)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                self.killed[name] = self.killed.get(name, 0) + 1
            await asyncio.sleep(self.rng.uniform(*every_s))


@asynccontextmanager
async def open_plant(home: Path, seed: int) -> AsyncIterator[Plant]:
    postgres = EmbeddedPostgres(home / "pg")
    supervisor = Supervisor(home / "logs")
    try:
        await asyncio.to_thread(upgrade, postgres.url)
        tokens = await asyncio.to_thread(make_tokens, postgres.url, home / "tokens")
        keys = home / "keys"
        load_signer(keys, "director")
        load_secret(keys, "object-urls.secret")
        load_authority(keys / "device-ca.pem", "fleetloop", datetime.now(UTC))
        rng = random.Random(seed)
        metrics_ports = {name: free_port() for name in PROGRAMS}
        people, proxied = _start(supervisor, home, postgres.url, metrics_ports)
        http, devices = Either(people, rng), Either(proxied, rng)
        for either in (http, devices):
            await either.request("GET", "/healthz")
        named = {Role(name): token for name, token in tokens.items()}
        server = Server(None, None, http, named)  # type: ignore[arg-type] # the application runs in other processes
        yield Plant(home, postgres.url, supervisor, server, devices, rng, metrics_ports)
        await http.close()
        await devices.close()
    finally:
        await asyncio.to_thread(supervisor.stop_all)
        postgres.stop()


async def _is_ready(metrics_port: int) -> bool:
    try:
        async with httpx.AsyncClient(timeout=2) as http:
            return (await http.get(f"http://127.0.0.1:{metrics_port}/readyz")).status_code == 200
    except httpx.HTTPError:
        return False


def _start(
    supervisor: Supervisor, home: Path, url: str, metrics_ports: dict[str, int]
) -> tuple[list[httpx.AsyncClient], list[httpx.AsyncClient]]:
    environment = {
        "FLEETLOOP_HOME": str(home),
        "FLEETLOOP_DATABASE_URL": url,
        "FLEETLOOP_ORCHESTRATOR": "none",
        "FLEETLOOP_CHECK_IN_S": "1",
        "FLEETLOOP_TICK_S": "0.5",
        "FLEETLOOP_EVIDENCE_CELL_S": "5",
        "FLEETLOOP_APPROVALS_NEEDED": "1",
    }
    people, proxied = [], []
    for number in (1, 2):
        port, socket = free_port(), home / f"{number}.sock"
        here = environment | {"FLEETLOOP_PUBLIC_URL": f"http://127.0.0.1:{port}"}
        arguments = {
            f"api-{number}": ["main", "--port", str(port), "--proxied-socket", str(socket)],
            f"worker-{number}": ["worker"],
        }
        for name, (module, *rest) in arguments.items():
            command = [sys.executable, "-m", f"control_plane.{module}", *rest]
            supervisor.start(Program(name, [*command, "--metrics-port", str(metrics_ports[name])], here))
        people.append(httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10))
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        proxied.append(httpx.AsyncClient(base_url="http://devices", transport=transport, timeout=10))
    return people, proxied


@dataclass
class Robot(Device):
    """A device behind the proxy. What it drives is told again until it is acknowledged, and counted here."""

    certificate: str = ""
    driven_m: float = 0.0
    counted: int = 0

    async def send(self, method: str, path: str, body: bytes = b"", **_: Any) -> httpx.Response:
        headers = {"Fleetloop-Client-Cert": quote(self.certificate)}
        answer: httpx.Response = await self.http.request(method, f"/device/v1/{path}", content=body, headers=headers)
        return answer

    async def check_in(self, **changes: Any) -> wire.DirectorManifest:
        """Check in as the agent writes it. One that was taken, but whose answer was lost, is made anew."""
        while True:
            message = wire.CheckIn.model_validate(self.check_in_message(**changes))
            answer = await self.send("POST", "check-in", message.model_dump_json().encode())
            if answer.status_code == 409:
                continue
            if answer.status_code != 200:
                raise RuntimeError(f"check-in refused: {answer.text}")
            reply = wire.CheckInReply.model_validate_json(answer.content)
            payload = wire.open_envelope(
                reply.manifest, wire.DIRECTOR_PAYLOAD, {wire.key_id(self.director): self.director}
            )
            return wire.DirectorManifest.model_validate_json(payload)

    async def tell(self, distance_m: float, events: int) -> None:
        content = self.active["content_digest"] if self.active else ""
        if not content:
            return
        said = window(self.spooled, content, distance_m, **({"near_miss": events} if events else {}))
        body = json.dumps({"stream_id": "s1", "windows": [said], "events": []}, separators=(",", ":")).encode()
        while True:
            answer = await self.send("POST", "telemetry", body)
            if answer.status_code != 200:
                raise RuntimeError(f"telemetry refused: {answer.text}")
            if answer.json()["acknowledged_seq"] >= self.spooled:
                break
            await asyncio.sleep(PAUSE_S)  # what it runs is not known there yet: its next check-in says so
            await self.check_in()
        self.spooled, self.driven_m, self.counted = self.spooled + 1, self.driven_m + distance_m, self.counted + events

    async def obey(self, contents: dict[str, str], phase: str = "committed") -> wire.ReleaseOrder | None:
        order = (await self.check_in()).order
        if order is None or (self.deployment and self.deployment["release_digest"] == order.release_digest):
            return order
        if order.release_digest not in contents:
            return order
        content = contents[order.release_digest]
        self.active = {"release_digest": order.release_digest, "content_digest": content, "counter": order.counter}
        self.floor, self.deployment = max(self.floor, order.counter), report(order, phase)
        await self.check_in()
        return order


async def enrol_robot(plant: Plant, number: int) -> Robot:
    key = new_key()
    await plant.server.ok("PUT", f"/device-classes/{CLASS}", json={"title": "Cart"})
    site = ("north", "south", "east", "west")[number % 4]
    body = enrol_body(await new_token(plant.server), key, f"sn-{number}", site=site) | {"csr_pem": csr(key)}
    answer = await plant.server.http.post("/device/v1/enrol", json=body)
    if answer.status_code != 201:
        raise RuntimeError(f"enrolment refused: {answer.text}")
    reply = wire.EnrolReply.model_validate_json(answer.content)
    director = Ed25519PublicKey.from_public_bytes(bytes.fromhex(reply.director_keys[0]))
    boot = f"boot-{uuid4().hex[:8]}"
    return Robot(plant.devices_http, key, reply.device_id, director, boot, certificate=reply.certificate_pem or "")
