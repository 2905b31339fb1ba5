"""The load generator: `python -m tests.bench.load PORT FILE SECONDS FROM [--wrap]`, a process of its own.

FILE holds lanes of ready-made requests (msgpack, list of lists of bytes). Each lane is one kept-alive connection that
sends its requests in order, the next when the answer to the last is whole. It costs about 20 microseconds per request,
far less than any server here; it is the same for a server and for its ceiling.
"""

import argparse
import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import msgspec
import uvloop


@dataclass
class Tally:
    """What came back. `reached` is the furthest place in a lane, so that the next round can go on behind it."""

    deadline: float
    done: int = 0
    bad: int = 0
    reached: int = 0
    body_bytes: int = 0
    last: float = 0.0
    latencies: list[float] = field(default_factory=list)
    first_bad: str = ""


class Lane(asyncio.Protocol):
    def __init__(self, requests: list[bytes], at: int, tally: Tally, *, wrap: bool) -> None:
        self._requests, self._at, self._tally, self._wrap = requests, at, tally, wrap
        self._buffer, self._need, self._sent = b"", 0, 0.0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def _next(self) -> None:
        if self._wrap and self._at >= len(self._requests):
            self._at = 0
        if self._at >= len(self._requests) or time.perf_counter() >= self._tally.deadline:
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(self._requests[self._at])
        self._at += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._need:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            place = head.index(b"content-length:") + 15
            size = int(head[place:].split(b"\r\n", 1)[0])
            self._need, self._tally.body_bytes = end + 4 + size, size
        if len(self._buffer) >= self._need:
            self._take()

    def _take(self) -> None:
        tally, now = self._tally, time.perf_counter()
        good = self._buffer[9:12] == b"200"
        if now < tally.deadline:
            tally.done += good
            tally.last = now
            tally.latencies.append(now - self._sent)
        tally.bad += not good
        if not good and not tally.first_bad:
            tally.first_bad = self._buffer.decode(errors="replace")[:600]
        tally.reached = max(tally.reached, self._at)
        self._buffer, self._need = b"", 0
        self._next()


async def drive(port: int, lanes: list[list[bytes]], seconds: float, at: int, *, wrap: bool) -> dict[str, object]:
    loop, begun = asyncio.get_running_loop(), time.perf_counter()
    tally = Tally(begun + seconds)
    made = [await loop.create_connection(lambda r=r: Lane(r, at, tally, wrap=wrap), "127.0.0.1", port) for r in lanes]
    await asyncio.gather(*(lane.over for _, lane in made))
    taken = sorted(tally.latencies) or [0.0]
    ran_out = not wrap and tally.reached >= len(lanes[0])
    return {
        "done": tally.done,
        "bad": tally.bad,
        "first_bad": tally.first_bad,
        "seconds": tally.last - begun if ran_out else seconds,
        "reached": tally.reached,
        "body_bytes": tally.body_bytes,
        "p50_ms": taken[len(taken) // 2] * 1e3,
        "p99_ms": taken[len(taken) * 99 // 100] * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("file", type=Path)
    parser.add_argument("seconds", type=float)
    parser.add_argument("start", type=int)
    parser.add_argument("--wrap", action="store_true")
    given = parser.parse_args()
    lanes = msgspec.msgpack.decode(given.file.read_bytes(), type=list[list[bytes]])
    print(json.dumps(uvloop.run(drive(given.port, lanes, given.seconds, given.start, wrap=given.wrap))))


if __name__ == "__main__":
    main()
