"""A seeded server in a process of its own, and a browser; both are skipped where they cannot be."""

import asyncio
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from control_plane.kit import clock
from control_plane.kit.auth import create_token
from control_plane.kit.roles import Role
from control_plane.kit.settings import Settings
from control_plane.main import open_context
from control_plane.telemetry import service as telemetry
from tests.browser.seed import Seeded, seed

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Live:
    """A running server and what is in it."""

    url: str
    token: str
    made: Seeded
    process: subprocess.Popen[bytes]


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.fixture
async def live(database_url: str, tmp_path: Path) -> AsyncIterator[Live]:
    settings = Settings(home=tmp_path, database_url=database_url, check_in_s=1.0)
    context = open_context(settings)
    await context.objects.start()
    async with context.database.transaction() as session:
        await telemetry.ensure_partitions(session, clock.now())
        token = await create_token(session, "ada", Role.ADMIN)
    made = await seed(context, devices=6, history=2, canary=3)
    await context.database.close()
    port = _free_port()
    environment = os.environ | {"FLEETLOOP_HOME": str(tmp_path), "FLEETLOOP_DATABASE_URL": database_url}
    process = _serve(port, environment)
    try:
        await asyncio.to_thread(_wait, f"http://127.0.0.1:{port}/healthz")
        yield Live(f"http://127.0.0.1:{port}", token, made, process)
    finally:
        process.terminate()
        process.wait(10)


def _serve(port: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "control_plane.main", "--port", str(port)], cwd=ROOT, env=environment
    )


def _wait(url: str) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            if httpx.get(url, timeout=2).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise TimeoutError(url)


@pytest.fixture
def browser_page() -> dict[str, Any]:
    """Return how to launch the browser, where there is one."""
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("playwright is not installed: pip install playwright")
    return {"executable_path": CHROMIUM, "args": ARGUMENTS}
