"""Look into the database beside the API."""

from typing import Any

from control_plane.kit.db import execute, rows
from tests.support.server import Server


async def select(server: Server, statement: str, **values: Any) -> list[dict[str, Any]]:
    async with server.context.database.transaction() as session:
        return [dict(found) for found in await rows(session, statement, **values)]


async def run(server: Server, statement: str, **values: Any) -> int:
    async with server.context.database.transaction() as session:
        return await execute(session, statement, **values)


async def count(server: Server, table: str) -> int:
    return int((await select(server, f"select count(*) as n from {table}"))[0]["n"])  # noqa: S608 - a test's own table
