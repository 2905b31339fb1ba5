"""Telemetry rows per second through one API process.

Measured: signed batches of exposure windows, from one device and from several, each answered after its commit, with
cells, totals and sums by device kept in the same transaction. Ceiling: COPY of the same rows, each batch committed,
into the same partitioned table over one asyncpg connection, with the records ready as tuples: what PostgreSQL takes.
Ours must also parse and check every field of the JSON, verify a signature, and keep the stream's place and the sums.
Where many devices send little each, the ceiling is given the larger batches that a group of them makes.
"""

import asyncio
import json
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg

from control_plane.cli.stack import Stack
from control_plane.telemetry.store.binary import WINDOW_COLUMNS
from tests.bench.figure import Figure, rate, say
from tests.bench.rounds import rounds_of
from tests.bench.stage import CLASS, CONTENT, Device, dumps, enrol, installation

ROUNDS, SECONDS = 4, 2.0
CASES = ((1, 1000, 1000), (8, 500, 500), (200, 5, 1000))  # devices, rows in a batch, rows in a COPY
WARM_UP = 120  # batches in all; the warm-up says how many the rounds will need
COPIED_BATCHES = 60


def windows(first: int, count: int) -> list[dict[str, Any]]:
    """Windows as a robot's spool gives them: ten seconds each, now and then an incident."""
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=10 * count)
    return [
        {
            "seq": first + i,
            "content_digest": CONTENT,
            "started_at": (start + timedelta(seconds=10 * i)).isoformat(),
            "ended_at": (start + timedelta(seconds=10 * i + 10)).isoformat(),
            "distance_m": 8.25 + i % 7,
            "duration_s": 10.0,
            "decisions": 100,
            "energy_j": 51.5,
            "counts": {"near_miss": 1} if i % 50 == 0 else {},
            "latency_p50_ms": 1.25,
            "latency_p99_ms": 3.5,
        }
        for i in range(count)
    ]


def lanes_of(devices: list[Device], rows: int, batches: int) -> list[list[bytes]]:
    """Sign batches of a new stream for each device, which has a lane of its own."""
    say(f"telemetry: signing {batches * len(devices)} batches of {rows} rows ahead")
    stream = f"s-{uuid4().hex[:12]}"
    bodies = [dumps({"stream_id": stream, "windows": windows(n * rows, rows)}) for n in range(batches)]
    return [[device.request("POST", "/device/v1/telemetry", body) for body in bodies] for device in devices]


def _records(device: Device, rows: int) -> list[list[tuple[Any, ...]]]:
    stream, at = f"raw-{uuid4().hex[:12]}", datetime.now(UTC)

    def record(w: dict[str, Any]) -> tuple[Any, ...]:
        times = (datetime.fromisoformat(w["started_at"]), datetime.fromisoformat(w["ended_at"]))
        amounts = (w["distance_m"], w["duration_s"], w["decisions"])
        latencies = (w["latency_p50_ms"], w["latency_p99_ms"])
        head = (device.id, stream, at, "north", CLASS, CONTENT, True, w["seq"])
        return (*head, *times, *amounts, *latencies, w["energy_j"], json.dumps(w["counts"]))

    return [[record(w) for w in windows(n * rows, rows)] for n in range(COPIED_BATCHES)]


async def copied(url: str, device: Device, rows: int) -> float:
    """Return rows per second of plain COPY."""
    connection = await asyncpg.connect(url)
    batches = _records(device, rows)
    begun = time.perf_counter()
    for batch in batches:
        await connection.copy_records_to_table("telemetry_window", records=batch, columns=WINDOW_COLUMNS)
    seconds = time.perf_counter() - begun
    await connection.close()
    return rows * COPIED_BATCHES / seconds


def bench() -> Iterable[Figure]:
    with installation() as stack:
        known = enrol(stack, max(count for count, _, _ in CASES))
        for count, rows, copied_rows in CASES:
            yield _case(stack, known[:count], rows, copied_rows)


def _case(stack: Stack, devices: list[Device], rows: int, copied_rows: int) -> Figure:
    with rounds_of(lanes_of(devices, rows, max(20, WARM_UP // len(devices)))) as rounds:
        warm = max(rounds.rate(stack.port, 1.0) for _ in range(2))  # the first time much is done once for all
    needed = max(40, int(2.5 * warm * ROUNDS * SECONDS / len(devices)))
    ours, raw, name = [], [], f"telemetry_{len(devices)}x{rows}"
    with rounds_of(lanes_of(devices, rows, needed)) as rounds:
        for number in range(ROUNDS):
            raw.append(asyncio.run(copied(str(stack.database_url), devices[0], copied_rows)))
            ours.append(rounds.rate(stack.port, SECONDS) * rows)
            say(f"{name}: round {number + 1}: {ours[-1]:.0f} rows/s, COPY {raw[-1]:.0f} rows/s")
    return rate(name, ours, raw, "rows/s", f"{len(devices)} device(s), {rows} rows a batch, {copied_rows} a COPY")
