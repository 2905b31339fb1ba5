"""LISTEN on PostgreSQL channels, for as long as it takes: notifications wake and invalidate, nothing relies on them."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import asyncpg

from control_plane.kit.db import driver_url

RETRY_S = 1.0
ALIVE_S = 2.0


async def listen(
    url: str,
    channels: Mapping[str, Callable[[str], None]],
    connected: Callable[[], None],
    lost: Callable[[], None] = lambda: None,
) -> None:
    """Call a channel's function with each payload; `connected` is called after every (re)connection.

    `lost` is called when the connection ends, or does not answer within `ALIVE_S` when it is asked as often: at most
    twice that after a notification could have been missed.
    """
    while True:
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await _listen_once(url, channels, connected)
        finally:
            lost()
        await asyncio.sleep(RETRY_S)


async def _listen_once(url: str, channels: Mapping[str, Callable[[str], None]], connected: Callable[[], None]) -> None:
    connection = await asyncpg.connect(driver_url(url))
    closed = asyncio.Event()
    connection.add_termination_listener(lambda *_: closed.set())

    def heard(_connection: object, _pid: int, channel: str, payload: str) -> None:
        channels[channel](payload)

    try:
        for channel in channels:
            await connection.add_listener(channel, heard)
        connected()
        while not await _is_set(closed):
            await connection.execute("select 1", timeout=ALIVE_S)
    finally:
        connection.terminate()


async def _is_set(event: asyncio.Event) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ALIVE_S):
            await event.wait()
    return event.is_set()
