"""The real application on a real database, called in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from control_plane.kit.auth import create_token
from control_plane.kit.context import Context
from control_plane.kit.roles import Role
from control_plane.kit.settings import Settings
from control_plane.main import create_app

BASE = "http://fleetloop.test"


@dataclass
class Server:
    """An application with a token for every role."""

    app: FastAPI
    context: Context
    http: httpx.AsyncClient
    tokens: dict[Role, str]

    async def call(self, method: str, path: str, role: Role = Role.ADMIN, **values: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} | values.pop("headers", {})
        return await self.http.request(method, f"/api/v1{path}", headers=headers, **values)

    async def ok(self, method: str, path: str, role: Role = Role.ADMIN, **values: Any) -> Any:
        answer = await self.call(method, path, role, **values)
        assert answer.is_success, answer.text
        return answer.json()


@asynccontextmanager
async def open_server(database_url: str, home: Path, **settings: Any) -> AsyncIterator[Server]:
    chosen = Settings(home=home, database_url=database_url, public_url=BASE, check_in_s=1.0, **settings)
    app = create_app(chosen)
    async with app.router.lifespan_context(app):
        context: Context = app.state.context
        async with context.database.transaction() as session:
            tokens = {role: await create_token(session, f"test-{role}", role) for role in Role}
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=BASE) as http:
            yield Server(app, context, http, tokens)
