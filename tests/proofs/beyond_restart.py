"""Every program of the control plane is restarted in its turn while devices check in 1,000 times a second and report.

Two processes for devices, two workers, two for people, on one database. What a device sends counts as failed if it has
no answer after it came again elsewhere; what was acknowledged must be in the database, once.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from control_plane.cli.processes import free_port
from control_plane.cli.simulated_fleet import Plan, Voice, make, shares
from control_plane.kit.db import libpq_of
from control_plane.kit.embedded import EmbeddedPostgres
from control_plane.migrations.upgrade import upgrade
from tests.support.patient import Lane
from tests.support.tuf import make_home

ROOT = Path(__file__).parents[2]
DEVICES, PER_S, LANES, WINDOWS = 2_000, 1_000, 16, 0.2
BETWEEN_S, WRITTEN_S = 3.0, 8.0


@dataclass
class Program:
    """One process, and the port on which it says that it is ready."""

    name: str
    arguments: Sequence[str]
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        command = [sys.executable, "-m", *self.arguments, "--metrics-port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2).close()
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
            else:
                return
        raise TimeoutError(f"{self.name} does not get ready")

    def stop(self) -> int:
        """End it as an operator does; return its exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def programs(home: Path, database_url: str) -> list[Program]:
    environment = os.environ | {
        "FLEETLOOP_HOME": str(home),
        "FLEETLOOP_DATABASE_URL": database_url,
        "FLEETLOOP_ORCHESTRATOR": "none",
        "FLEETLOOP_DEVICE_RATE_PER_S": "1000",
    }
    found = []
    for number in (1, 2):
        devices = ["control_plane.main", "--serve", "devices", "--proxied-socket", str(home / f"{number}.sock")]
        people = ["control_plane.main", "--serve", "people", "--port", str(free_port())]
        found += [
            Program(f"devices {number}", devices, environment),
            Program(f"people {number}", people, environment),
            Program(f"worker {number}", ["control_plane.worker"], environment),
        ]
    return found


def restart_all(running: Sequence[Program]) -> dict[str, int]:
    """Restart one after the other, each once the one before is ready again; return exit statuses."""
    ends = {}
    for program in running:
        time.sleep(BETWEEN_S)
        ends[program.name] = program.stop()
        program.start()
    time.sleep(BETWEEN_S)
    return ends


def drive(voices: Sequence[Voice], home: Path, running: Sequence[Program]) -> tuple[list[Lane], dict[str, int]]:
    replicas = [home / "1.sock", home / "2.sock"]
    spoken = shares(voices, LANES, WINDOWS, proxied=True)
    lanes = [Lane(share, replicas, PER_S / LANES, number) for number, share in enumerate(spoken)]
    for lane in lanes:
        lane.start()
    ends = restart_all(running)
    for lane in lanes:
        lane.ends.set()
    for lane in lanes:
        lane.join(60)
    return lanes, ends


async def stored(database_url: str) -> tuple[int, int, float]:
    """Return windows, different ones of them, and metres that the sums for decisions hold."""
    connection = await asyncpg.connect(libpq_of(database_url)[0])
    try:
        rows, different = await connection.fetchrow(
            "select count(*), count(distinct (device_id, stream_id, seq)) from telemetry_window"
        )
        metres = await connection.fetchval("select coalesce(sum(distance_mm), 0) / 1000.0 from telemetry_total")
        return int(rows), int(different), float(metres)
    finally:
        await connection.close()


def measured() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="fl-roll-") as folder, ExitStack() as ended:
        home = Path(folder) / "home"
        make_home(home)
        server = EmbeddedPostgres(Path(folder) / "postgres")
        ended.callback(server.stop)
        upgrade(server.url)
        running = programs(home, server.url)
        for program in running:
            ended.callback(program.stop)
            program.start()
        plan = Plan(DEVICES, DEVICES, ["cart"], ["north", "south"])
        authority = home / "keys" / "device-ca.pem"
        voices = asyncio.run(make(server.url, authority, "fleetloop", plan, lambda _: None))
        lanes, ends = drive(voices, home, running)
        time.sleep(WRITTEN_S)
        return {"lanes": lanes, "ends": ends, "stored": asyncio.run(stored(server.url))}


def run() -> Iterator[dict[str, Any]]:
    found = measured()
    told = [lane.told for lane in found["lanes"]]
    acknowledged = sum(n for each in told for n in each.acknowledged.values())
    rows, different, metres = found["stored"]
    failed, refused = sum(each.failed for each in told), [status for each in told for status in each.refused]
    yield {
        "proof": f"beyond: every program restarted under {PER_S} requests a second of {DEVICES} devices",
        "ok": failed == 0 and not refused and not any(found["ends"].values()),
        "bound": "none fails after it came again, none is refused, every program ends well",
        "figures": {
            "check_ins": sum(each.check_ins for each in told),
            "came_again": sum(each.again for each in told),
            "failed": failed,
            "refused": len(refused),
            "restarted": len(found["ends"]),
        },
    }
    yield {
        "proof": "beyond: telemetry over these restarts",
        "ok": acknowledged == different == rows and abs(metres - 12.5 * acknowledged) < 1e-3 * max(metres, 1.0),
        "bound": "every acknowledged window is stored, once, and in the sums that rollouts decide by",
        "figures": {"acknowledged": acknowledged, "stored": rows, "metres_in_sums": round(metres)},
    }
