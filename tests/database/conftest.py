"""The application in this process, and one enrolled device."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.web import pulse
from tests.support.device import Device, enrol
from tests.support.server import Server, open_server


@pytest.fixture(autouse=True)
def no_endless_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client within this process gives an answer when it is whole, so that of a stream must end."""
    monkeypatch.setattr(pulse, "LIFE_S", 0.0)


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    async with open_server(database_url, tmp_path) as opened:
        yield opened


@pytest.fixture
async def device(server: Server) -> Device:
    return await enrol(server)
