"""Devices behind a proxy that check in as the agent does, and an application that answers them."""

import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agents.protocol import v1 as wire
from control_plane.kit.tls import behind_proxy
from control_plane.main import create_app
from tests.support.device import Device
from tests.support.identity import enrol_with_certificate, listening
from tests.support.rows import select
from tests.support.server import BASE, Server

HEADER = "Fleetloop-Client-Cert"
GAUGES = {"windows": 0.0, "bytes": 4096.0}


@dataclass
class Quiet:
    """One device, and the server it speaks to through a proxy."""

    server: Server
    http: httpx.AsyncClient
    device: Device
    certificate: str

    def message(self, **changes: Any) -> wire.CheckIn:
        self.device.seq += 1
        values = {
            "boot_id": self.device.boot,
            "seq": self.device.seq,
            "nonce": uuid4().hex,
            "sent_at": datetime.now(UTC),
            "agent_version": "0.1.0",
            "counter_floor": self.device.floor,
            "spool": GAUGES,
            "platform": {"machine": "aarch64", "load_1m": 0.5},
        }
        return wire.CheckIn.model_validate(values | changes)

    async def send(self, message: wire.CheckIn | bytes, **headers: str) -> httpx.Response:
        body = message if isinstance(message, bytes) else message.model_dump_json().encode()
        given = {HEADER: urllib.parse.quote(self.certificate)} | headers
        return await self.http.post("/device/v1/check-in", content=body, headers=given)

    async def check_in(self, **changes: Any) -> wire.DirectorManifest:
        """Check in; return the manifest once it is right."""
        message = self.message(**changes)
        return opened(await self.send(message), self.device, message)

    async def flush(self) -> None:
        await self.server.app.state.quiet.flush()

    async def row(self) -> dict[str, Any]:
        columns = "state, last_seq, last_nonce, boots, boot_ends, spool, platform, last_seen_at, active_content"
        [found] = await select(
            self.server,
            f"select {columns} from fleet_device where id = :id",  # noqa: S608 - columns of this module
            id=self.device.id,
        )
        return found

    async def from_memory(self) -> bool:
        """Check in, and say whether the row was left for later."""
        before = (await self.row())["last_seq"]
        await self.check_in()
        return bool((await self.row())["last_seq"] == before)


def opened(answer: httpx.Response, device: Device, message: wire.CheckIn) -> wire.DirectorManifest:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    reply = wire.CheckInReply.model_validate_json(answer.content)
    trusted: dict[str, Ed25519PublicKey] = {wire.key_id(device.director): device.director}
    payload = wire.open_envelope(reply.manifest, wire.DIRECTOR_PAYLOAD, trusted)
    manifest = wire.DirectorManifest.model_validate_json(payload)
    assert (manifest.device_id, manifest.nonce, manifest.seq) == (device.id, message.nonce, message.seq)
    return manifest


@asynccontextmanager
async def proxied(server: Server, folder: Path, name: str = "proxied") -> AsyncIterator[httpx.AsyncClient]:
    """Speak to the application as nginx does, over a unix socket."""
    path = folder / f"{name}.sock"
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with (
        listening(server, behind_proxy(server.app, socket=path)),
        httpx.AsyncClient(transport=transport, base_url="http://devices", timeout=20) as http,
    ):
        await server.app.state.quiet.hears.wait()
        yield http


@asynccontextmanager
async def quiet_device(server: Server, folder: Path) -> AsyncIterator[Quiet]:
    """Give a device whose next check-in brings nothing new."""
    async with proxied(server, folder) as http:
        device, certificate = await enrol_with_certificate(server)
        made = Quiet(server, http, device, certificate)
        await made.check_in()
        yield made


@asynccontextmanager
async def another_process(server: Server) -> AsyncIterator[Server]:
    """Give the application again, on the same database and home, with a memory of its own."""
    app = create_app(server.context.settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as http:
            yield Server(app, app.state.context, http, server.tokens)
