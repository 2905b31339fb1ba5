"""Telemetry rows per second through one API process, from devices behind a proxy.

Measured: batches of exposure windows of one device and of several, each of which proves itself by its certificate and
is answered after the commit, with cells, totals and sums by device kept in the same transaction. Ceiling: COPY of the
same rows, each batch committed, into the same partitioned table over one asyncpg connection, with the records ready as
tuples: what PostgreSQL takes. Ours must also parse and check every field of the JSON, and keep the stream's place and
the sums. Where many devices send little each, the ceiling is given the larger batches that a group of them makes.
A fleet that is large is asked to send every five minutes (`telemetry.domain.pacing`): 30 windows a batch.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any
from uuid import uuid4

import asyncpg

from control_plane.cli.simulated_fleet import Plan, Voice
from control_plane.cli.stack import Stack
from control_plane.fleet.service import SAYS
from control_plane.telemetry.store.binary import WINDOW_COLUMNS
from tests.bench.figure import Figure, rate, say
from tests.bench.fleet import Round, Speaking, Target, api, made
from tests.bench.stage import CLASS, dumps, installation

RUNS = SAYS.active.content_digest if SAYS.active else ""
ROUNDS, SECONDS = 4, 2.0
CASES = ((1, 1000, 1000), (8, 500, 500), (200, 30, 1000), (200, 5, 1000))  # devices, rows in a batch, rows in a COPY
MOST_ROWS_PER_S = 200_000  # more than can come, while it is not known how many the rounds will need
COPIED_BATCHES = 60


def windows(first: int, count: int) -> list[dict[str, Any]]:
    """Windows as a robot's spool gives them: ten seconds each, now and then an incident."""
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=10 * count)
    return [
        {
            "seq": first + i,
            "content_digest": RUNS,
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


@dataclass(slots=True)
class Reporter:
    """A device that sends batches made ahead, which all devices share: a stream is named within its device."""

    head: bytes
    bodies: Sequence[bytes]
    at: int = 0

    def request(self, _nonce: int) -> bytes:
        body = self.bodies[self.at]
        self.at += 1
        return b"%bContent-Length: %d\r\n\r\n%b" % (self.head, len(body), body)


def bodies_of(rows: int, batches: int) -> list[bytes]:
    stream = f"s-{uuid4().hex[:12]}"
    return [dumps({"stream_id": stream, "windows": windows(n * rows, rows)}) for n in range(batches)]


def _records(device_id: str, rows: int) -> list[list[tuple[Any, ...]]]:
    stream, at = f"raw-{uuid4().hex[:12]}", datetime.now(UTC)

    def record(w: dict[str, Any]) -> tuple[Any, ...]:
        times = (datetime.fromisoformat(w["started_at"]), datetime.fromisoformat(w["ended_at"]))
        amounts = (w["distance_m"], w["duration_s"], w["decisions"])
        latencies = (w["latency_p50_ms"], w["latency_p99_ms"])
        head = (device_id, stream, at, "north", CLASS, RUNS, True, w["seq"])
        return (*head, *times, *amounts, *latencies, w["energy_j"], None, None, json.dumps(w["counts"]))

    return [[record(w) for w in windows(n * rows, rows)] for n in range(COPIED_BATCHES)]


async def copied(url: str, device_id: str, rows: int) -> float:
    """Return rows per second of plain COPY."""
    connection = await asyncpg.connect(url)
    batches = _records(device_id, rows)
    begun = time.perf_counter()
    for batch in batches:
        await connection.copy_records_to_table("telemetry_window", records=batch, columns=WINDOW_COLUMNS)
    seconds = time.perf_counter() - begun
    await connection.close()
    return rows * COPIED_BATCHES / seconds


def bench() -> Iterable[Figure]:
    most = max(count for count, _, _ in CASES)
    with installation() as stack:
        voices = made(stack, Plan(most, most, [CLASS], ["north"]))
        with api(stack, "telemetry") as target:
            for count, rows, copied_rows in CASES:
                yield from _case(stack, target, voices[:count], rows, copied_rows)


def _speaking(voices: Sequence[Voice], rows: int, batches: int) -> Speaking:
    bodies = bodies_of(rows, batches)
    return Speaking("proxied", [[Reporter(voice.head("telemetry", proxied=True), bodies)] for voice in voices], [])


def _case(stack: Stack, target: Target, voices: Sequence[Voice], rows: int, copied_rows: int) -> Iterable[Figure]:
    name, count = f"telemetry_{len(voices)}x{rows}", len(voices)
    trying = _speaking(voices, rows, max(30, MOST_ROWS_PER_S * 2 // rows // count))
    warm = max(target.run(trying, 1.0).per_s for _ in range(2))  # the first time much is done once for all
    speaking = _speaking(voices, rows, max(40, int(2.5 * warm * ROUNDS * SECONDS / count)))
    ours, raw = list[Round](), list[float]()
    for _ in range(ROUNDS):
        raw.append(asyncio.run(copied(str(stack.database_url), voices[0].id, copied_rows)))
        ours.append(target.run(speaking, SECONDS))
        say(f"{name}: {ours[-1].per_s * rows:.0f} rows/s, COPY {raw[-1]:.0f} rows/s")
    batches_per_s = median(each.per_s for each in ours)
    note = f"{count} device(s), {rows} rows a batch, {copied_rows} a COPY, {batches_per_s:.0f} batches/s"
    yield rate(name, [each.per_s * rows for each in ours], raw, "rows/s", note)
