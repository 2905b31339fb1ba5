import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from agents.link import DeviceClient, Enrolment, Identity, enrol, new_http
from agents.link.identity import load_key
from agents.sdk import StateDir
from tests.agent.server import Door, FleetServer, served


@pytest.fixture(scope="session")
def door() -> Iterator[tuple[Door, str]]:
    door = Door()
    with served(door) as url:
        yield door, url


@pytest.fixture
def server(door: tuple[Door, str]) -> FleetServer:
    door[0].behind = FleetServer(url=door[1])
    return door[0].behind


@pytest.fixture(scope="session")
def tls() -> ssl.SSLContext:
    """Reading the system's certificates takes longer than most tests."""
    return ssl.create_default_context()


@pytest.fixture
async def http(tls: ssl.SSLContext) -> AsyncIterator[httpx.AsyncClient]:
    async with new_http(tls=tls) as client:
        yield client


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return StateDir(tmp_path)


@pytest.fixture
async def identity(server: FleetServer, http: httpx.AsyncClient, state: StateDir) -> Identity:
    wish = Enrolment(
        server=server.url,
        token=SecretStr("t" * 20),
        serial="7",
        device_class="test",
        site="hall",
        labels={"line": "3"},
    )
    return await enrol(http, state, wish)


@pytest.fixture
def client(identity: Identity, http: httpx.AsyncClient, state: StateDir) -> DeviceClient:
    return DeviceClient(http, identity.server, load_key(state), identity.device_id, timeout_s=5)
