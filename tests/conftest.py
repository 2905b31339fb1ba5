"""What all tests share: a real PostgreSQL, found or started once per worker, and a database for each test."""

import asyncio
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from control_plane.kit.embedded import EmbeddedPostgres
from control_plane.migrations.upgrade import upgrade

TEMPLATE = "fleetloop_template"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server's URL: FLEETLOOP_TEST_DATABASE_URL, else a container where Docker answers, else the embedded one."""
    given = os.environ.get("FLEETLOOP_TEST_DATABASE_URL")
    if given:
        yield given
        return
    if _docker_answers():
        yield from _container()
        return
    # A folder of its own, not pytest's: other sessions on the machine tidy up pytest's.
    with tempfile.TemporaryDirectory(prefix="fl-pg-", ignore_cleanup_errors=True) as folder:
        server = EmbeddedPostgres(Path(folder))
        yield server.url
        server.stop()


def _docker_answers() -> bool:
    try:
        asked = subprocess.run(
            ["docker", "image", "inspect", "postgres:16-alpine"], capture_output=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def _container() -> Iterator[str]:
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 - only where Docker answers

    with PostgresContainer("postgres:16-alpine") as container:
        yield container.get_connection_url(driver=None)


def with_database(url: str, name: str) -> str:
    base, _, query = url.partition("?")
    return f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")


@pytest.fixture(scope="session")
def template(postgres_url: str) -> str:
    """A migrated database that tests copy, which is much quicker than migrating each."""
    name = f"{TEMPLATE}_{os.getpid()}"

    async def make() -> None:
        connection = await asyncpg.connect(postgres_url)
        await connection.execute(f'create database "{name}"')
        await connection.close()

    asyncio.run(make())
    upgrade(with_database(postgres_url, name))
    return name


@pytest.fixture
async def database_url(postgres_url: str, template: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A database of the test's own, reached through the pooler FLEETLOOP_TEST_POOLER_URL if there is one."""
    name = f"t_{uuid4().hex}"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(f'create database "{name}" template "{template}"')
    pooler = os.environ.get("FLEETLOOP_TEST_POOLER_URL")
    if pooler:
        monkeypatch.setenv("FLEETLOOP_DATABASE_DIRECT_URL", with_database(postgres_url, name))
    yield with_database(pooler or postgres_url, name)
    await connection.execute(f'drop database "{name}" with (force)')
    await connection.close()


@pytest.fixture(autouse=True)
def _quiet_platformdirs() -> None:
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")


PYTHON = Path(sys.executable)
