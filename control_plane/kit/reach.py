"""Names looked up once, so that what was judged is also what is connected to."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

RESOLVE_S = 5.0
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name, in the system's order.

    Raises:
        OSError: it has none, or nobody says so in time.
    """
    async with asyncio.timeout(RESOLVE_S):
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]
