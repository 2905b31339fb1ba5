"""PostgreSQL dies and comes back while devices and people call: they are told to try again, and nothing is lost."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.kit.roles import Role
from control_plane.migrations.upgrade import upgrade
from control_plane.rollout import reconcile
from tests.support.device import Device, enrol, event, window
from tests.support.postgres import RestartablePostgres
from tests.support.rows import select
from tests.support.server import Server, open_server


@pytest.fixture
def own_postgres() -> Iterator[RestartablePostgres]:
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        made = RestartablePostgres(Path(folder) / "data")
        upgrade(made.url)
        yield made
        made.stop()


class Load:
    """Devices that send batch after batch, each again until it is acknowledged, and a person who looks."""

    def __init__(self, server: Server, devices: list[Device]) -> None:
        self.server, self.devices = server, devices
        self.stop = asyncio.Event()
        self.statuses: Counter[int] = Counter()
        self.acknowledged = dict.fromkeys((device.id for device in devices), -1)
        self.unhelpful: list[str] = []

    async def send(self, device: Device) -> None:
        seq = 0
        while not self.stop.is_set():
            batch = {"windows": [window(seq), window(seq + 1)], "events": [event(seq + 2, event_id=f"e{seq}")]}
            while True:
                answer = await device.telemetry(**batch)
                self.statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    break
                if answer.status_code != 503 or "retry-after" not in answer.headers:
                    self.unhelpful.append(answer.text)
                await asyncio.sleep(0.05)
            self.acknowledged[device.id] = answer.json()["acknowledged_seq"]
            seq += 3

    async def look(self) -> None:
        while not self.stop.is_set():
            for path in ("/devices", "/events", "/rollouts"):
                answer = await self.server.call("GET", path, Role.VIEWER)
                if answer.status_code not in (200, 503):
                    self.unhelpful.append(answer.text)
            await asyncio.sleep(0.05)

    async def run(self) -> None:
        await asyncio.gather(*(self.send(device) for device in self.devices), self.look())


@pytest.mark.timeout(180)
async def test_a_database_that_dies_only_delays(own_postgres: RestartablePostgres, tmp_path: Path) -> None:
    async with open_server(own_postgres.url, tmp_path) as server:
        devices = [await enrol(server) for _ in range(4)]
        load = Load(server, devices)
        running = asyncio.create_task(load.run())
        for _ in range(2):
            await asyncio.sleep(0.5)
            await asyncio.to_thread(own_postgres.crash)
            await asyncio.sleep(0.5)
            assert (await server.http.get("/readyz")).status_code == 503
            assert (await server.http.get("/healthz")).status_code == 200
            await asyncio.to_thread(own_postgres.start)
        before = load.statuses[200]
        for _ in range(400):
            await asyncio.sleep(0.05)
            if load.statuses[200] > before + 8:
                break
        load.stop.set()
        await asyncio.wait_for(running, 60)
        assert load.unhelpful == []
        assert load.statuses[503] > 0
        assert (await server.http.get("/readyz")).status_code == 200
        await everything_is_there_once(server, load)
        assert await reconcile.tick(server.context) == 0
        assert (await server.ok("GET", "/audit/check"))["intact"]


async def everything_is_there_once(server: Server, load: Load) -> None:
    for device in load.devices:
        taken = load.acknowledged[device.id]
        found = await select(
            server,
            "select seq from telemetry_window where device_id = :id union all "
            "select seq from telemetry_event where device_id = :id order by seq",
            id=device.id,
        )
        assert taken > 0
        assert [row["seq"] for row in found] == list(range(taken + 1))


async def test_a_changed_device_is_noticed_after_the_listener_lost_its_connection(
    own_postgres: RestartablePostgres, tmp_path: Path
) -> None:
    async with open_server(own_postgres.url, tmp_path) as server:
        device = await enrol(server)
        assert (await device.telemetry()).status_code == 200
        await asyncio.to_thread(own_postgres.crash)
        await asyncio.to_thread(own_postgres.start)
        async with server.context.database.transaction() as session:
            await session.connection()
        await server.ok("PATCH", f"/devices/{device.id}", json={"state": "quarantined", "reason": "smoke"})
        for _ in range(100):
            if (await device.telemetry()).status_code == 403:
                return
            await asyncio.sleep(0.05)
        pytest.fail("a device quarantined during an outage is still heard")
