"""LISTEN on PostgreSQL channels, for as long as it takes: notifications wake and invalidate, nothing relies on them."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import asyncpg

RETRY_S = 1.0


async def listen(url: str, channels: Mapping[str, Callable[[str], None]], connected: Callable[[], None]) -> None:
    """Call a channel's function with each payload; `connected` is called after every (re)connection."""
    while True:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await _listen_once(url, channels, connected)
        await asyncio.sleep(RETRY_S)


async def _listen_once(url: str, channels: Mapping[str, Callable[[str], None]], connected: Callable[[], None]) -> None:
    connection = await asyncpg.connect(url)
    closed = asyncio.Event()
    connection.add_termination_listener(lambda *_: closed.set())

    def heard(_connection: object, _pid: int, channel: str, payload: str) -> None:
        channels[channel](payload)

    try:
        for channel in channels:
            await connection.add_listener(channel, heard)
        connected()
        await closed.wait()
    finally:
        await connection.close()
