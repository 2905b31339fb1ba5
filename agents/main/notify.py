"""Words to systemd, if it started us: ready, alive, stopping. One datagram each, standard library only."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Coroutine
from typing import Any


def notify(words: str) -> bool:
    """Say something to the service manager; False if there is none."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        # A leading @ is the abstract name space, which the kernel writes with a zero byte.
        sender.connect("\0" + address[1:] if address[0] == "@" else address)
        sender.sendall(words.encode())
    return True


def watchdog_period_s() -> float | None:
    """Return how often to say that we live: a third of the time systemd allows; None if it does not watch us."""
    try:
        allowed_s = int(os.environ.get("WATCHDOG_USEC", "")) / 1e6
    except ValueError:
        return None
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()) or allowed_s <= 0:
        return None
    return allowed_s / 3


async def watched(work: Coroutine[Any, Any, None]) -> None:
    """Do the work and tell systemd that the event loop turns; one that hangs falls silent and is started again."""
    with contextlib.suppress(OSError):
        notify("READY=1")
    alive = asyncio.ensure_future(_alive())
    try:
        await work
    finally:
        alive.cancel()
        with contextlib.suppress(OSError):
            notify("STOPPING=1")


async def _alive() -> None:
    period_s = watchdog_period_s()
    while period_s is not None:
        with contextlib.suppress(OSError):
            notify("WATCHDOG=1")
        await asyncio.sleep(period_s)
