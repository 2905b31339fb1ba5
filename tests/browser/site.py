"""A seeded installation in a process of its own: what browser tests look at.

`python -m tests.browser.site` serves one until Ctrl-C and prints its address and an admin's token.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from control_plane.kit import clock
from control_plane.kit.auth import create_token
from control_plane.kit.embedded import EmbeddedPostgres
from control_plane.kit.roles import Role
from control_plane.kit.settings import Settings
from control_plane.main import open_context
from control_plane.migrations.upgrade import upgrade
from control_plane.telemetry import service as telemetry
from tests.browser.seed import Seeded, seed

ROOT = Path(__file__).parents[2]


@dataclass
class Live:
    """A running server and what is in it."""

    url: str
    token: str
    made: Seeded
    processes: list[subprocess.Popen[bytes]]


@asynccontextmanager
async def open_site(database_url: str, home: Path, *, devices: Sequence[str] = ()) -> AsyncIterator[Live]:
    """`devices`: arguments of a process for them, if there should be one."""
    settings = Settings(home=home, database_url=database_url, check_in_s=1.0)
    context = open_context(settings)
    await context.objects.start()
    async with context.database.transaction() as session:
        await telemetry.ensure_partitions(session, clock.now())
        token = await create_token(session, "ada", Role.ADMIN)
    made = await seed(context, devices=6, history=2, canary=3)
    await context.database.close()
    port = _free_port()
    environment = os.environ | {"FLEETLOOP_HOME": str(home), "FLEETLOOP_DATABASE_URL": database_url}
    processes = [_serve(environment, "people", "--port", str(port))]
    if devices:
        processes.append(_serve(environment, "devices", *devices))
    try:
        await asyncio.to_thread(_wait, f"http://127.0.0.1:{port}/healthz")
        yield Live(f"http://127.0.0.1:{port}", token, made, processes)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10)


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def _serve(environment: dict[str, str], who: str, *where: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "control_plane.main", "--serve", who, *where]
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def _wait(url: str) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            if httpx.get(url, timeout=2).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise TimeoutError(url)


async def _show(database_url: str, home: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_site(database_url, home) as live:
        print(live.url, live.token, flush=True)
        await stop.wait()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="fl-site-") as folder:
        server = EmbeddedPostgres(Path(folder) / "postgres")
        try:
            upgrade(server.url)
            asyncio.run(_show(server.url, Path(folder) / "home"))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
