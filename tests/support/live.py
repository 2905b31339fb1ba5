"""The real application on a real port, served by uvicorn in the test's own event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from control_plane.client import Client
from control_plane.kit.auth import create_token
from control_plane.kit.roles import Role
from control_plane.kit.settings import Settings
from control_plane.main import create_app
from tests.support.server import Server


@dataclass
class Live:
    port: int
    url: str
    server: Server

    def client(self, role: Role = Role.ADMIN, **values: Any) -> Client:
        return Client(self.url, self.server.tokens[role], **values)


@asynccontextmanager
async def serve(database_url: str, home: Path, *, max_body_s: float = 10.0, **settings: Any) -> AsyncIterator[Live]:
    sock = socket.socket(proto=socket.IPPROTO_TCP)  # without it asyncio leaves Nagle on: 40 ms a request
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    app = create_app(Settings(home=home, database_url=database_url, public_url=url, **settings), max_body_s=max_body_s)
    config = uvicorn.Config(app, log_level="critical", ws="none", timeout_graceful_shutdown=1)
    uvicorn_server = uvicorn.Server(config)
    serving = asyncio.create_task(uvicorn_server.serve([sock]))
    while not uvicorn_server.started:  # noqa: ASYNC110 - uvicorn gives no event for it
        await asyncio.sleep(0.01)
    context = app.state.context
    async with context.database.transaction() as session:
        tokens = {role: await create_token(session, f"test-{role}", role) for role in Role}
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        yield Live(port, url, Server(app, context, http, tokens))
    uvicorn_server.should_exit = True
    await serving
    sock.close()
