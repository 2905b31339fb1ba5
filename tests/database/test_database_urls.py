"""FLEETLOOP_DATABASE_URL as people write it: any scheme, and libpq's own parameters in the query."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from control_plane.kit.db import Database
from control_plane.kit.listen import listen
from tests.conftest import with_database


def said(url: str, query: str, scheme: str = "postgresql") -> str:
    return f"{scheme}://{url.partition('://')[2]}{'&' if '?' in url else '?'}{query}"


async def asked(url: str, statement: str, **options: Any) -> Any:
    database = Database(url, **options)
    try:
        async with database.transaction() as session:
            return (await session.execute(text(statement))).scalar_one()
    finally:
        await database.close()


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
async def test_parameters_of_libpq_reach_the_driver(postgres_url: str, scheme: str, pooled: bool) -> None:
    url = said(postgres_url, "application_name=a%20plant&sslmode=prefer", scheme)
    assert await asked(url, "show application_name", pooled=pooled) == "a plant"
    assert await asked(url, "select current_database()", pooled=pooled) == "postgres"


@asynccontextmanager
async def by_tcp(socket: Path) -> AsyncIterator[int]:
    """Give a server's socket a port of loopback as well: drivers ask for no TLS by a socket."""

    bridges = set[asyncio.Task[None] | None]()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while part := await reader.read(65536):
                writer.write(part)
                await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def bridge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bridges.add(asyncio.current_task())
        far_reader, far_writer = await asyncio.open_unix_connection(socket)
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

    server = await asyncio.start_server(bridge, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*filter(None, bridges))


async def test_no_connection_without_tls_where_the_url_demands_it(postgres_url: str) -> None:
    folder = make_url(postgres_url).query.get("host")
    if not folder:
        pytest.skip("this PostgreSQL is reached by TCP and may speak TLS: the embedded one is asked")
    async with by_tcp(Path(str(folder)) / ".s.PGSQL.5432") as port:
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        assert await asked(said(url, "sslmode=prefer"), "select 1") == 1
        with pytest.raises((OSError, DBAPIError), match="SSL"):
            await asked(said(url, "sslmode=require"), "select 1")


async def test_notifications_come_by_the_same_url(postgres_url: str) -> None:
    url = said(postgres_url, "sslmode=prefer", "postgresql+asyncpg")
    ready, heard = asyncio.Event(), asyncio.Queue[str]()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(listen(url, {"urls": heard.put_nowait}, ready.set))
        await ready.wait()
        await asked(with_database(url, "postgres"), "select pg_notify('urls', 'hello')")
        assert await heard.get() == "hello"
        task.cancel()
