"""A cheap load of check-ins: few connections, many devices that take turns on them, plain sockets and no event loop.

It costs a few microseconds a request, so that what is measured is the server. Devices speak as through a proxy, which
names each of them in a header, or each by a TLS connection of its own.
"""

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Protocol

READ_BYTES = 1 << 16
WAIT_S = 0.05
PATIENCE_S = 10.0
Connect = Callable[[], socket.socket]


class Speaks(Protocol):
    def request(self, nonce: int, /) -> bytes:
        """Return the next request whole."""


@dataclass(slots=True)
class Speaker:
    """A device that checks in: the bytes of its request before and after what changes from one to the next."""

    head: bytes
    tail: bytes
    seq: int

    def request(self, nonce: int) -> bytes:
        self.seq += 1
        return b'%b%d,"nonce":"%032x%b' % (self.head, self.seq, nonce, self.tail)


@dataclass(slots=True)
class Teller:
    """A device that reports what it drove: one telemetry window at a time."""

    head: bytes
    before: bytes
    after: bytes
    seq: int = -1

    def request(self, _nonce: int) -> bytes:
        self.seq += 1
        body = b"%b%d%b" % (self.before, self.seq, self.after)
        return b"%bContent-Length: %d\r\n\r\n%b" % (self.head, len(body), body)


@dataclass(slots=True)
class Tally:
    """What came back: `done` counts check-ins, `latencies_s` are theirs; `lost` had no answer when patience ended."""

    done: int = 0
    windows: int = 0
    bad: int = 0
    lost: int = 0
    first_bad: str = ""
    seconds: float = 0.0
    body_bytes: int = 0
    latencies_s: list[float] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        return self.done / self.seconds if self.seconds else 0.0

    def quantile_ms(self, share: float) -> float:
        found = sorted(self.latencies_s) or [0.0]
        return found[min(int(len(found) * share), len(found) - 1)] * 1e3


class _Lane:
    """One connection; its speakers take turns, the next when the last has its whole answer."""

    def __init__(self, connection: socket.socket, speakers: Sequence[Speaks], nonces: Iterator[int]) -> None:
        self.connection, self._speakers, self._nonces = connection, speakers, nonces
        self._turn, self._buffer, self._sent_s, self.idle = 0, b"", 0.0, True
        self._speaker = speakers[0]

    def send(self) -> None:
        self._speaker = speaker = self._speakers[self._turn]
        self._turn = (self._turn + 1) % len(self._speakers)
        self._sent_s, self.idle = time.perf_counter(), False
        self.connection.sendall(speaker.request(next(self._nonces)))

    def receive(self, tally: Tally) -> bool:
        """Read what is there; return whether the answer is whole."""
        try:
            data = self.connection.recv(READ_BYTES)
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        if not data:
            raise ConnectionError("the server closed the connection")
        self._buffer += data
        place, end = self._buffer.find(b"content-length: "), self._buffer.find(b"\r\n\r\n")
        if end < 0 or place < 0:
            return False
        size = int(self._buffer[place + 16 : self._buffer.find(b"\r", place)])
        if len(self._buffer) < end + 4 + size:
            return False
        self._count(tally, size)
        return True

    def _count(self, tally: Tally, size: int) -> None:
        if self._buffer.startswith(b"HTTP/1.1 200") and isinstance(self._speaker, Teller):
            tally.windows += 1
        elif self._buffer.startswith(b"HTTP/1.1 200"):
            tally.done += 1
            tally.body_bytes = size
            tally.latencies_s.append(time.perf_counter() - self._sent_s)
        else:
            tally.bad += 1
            tally.first_bad = tally.first_bad or self._buffer.decode(errors="replace")[:600]
        self._buffer, self.idle = b"", True


def drive(
    connect: Connect,
    shares: Sequence[Sequence[Speaks]],
    seconds: float,
    *,
    rate_per_s: float | None = None,
    nonces: Iterator[int] | None = None,
    tick: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Have each share of the speakers check in over a connection of its own, for some time, at most so often.

    Raises:
        OSError: the server cannot be reached.
    """
    nonces = nonces or count(time.time_ns())
    lanes = {lane.connection.fileno(): lane for lane in (_Lane(connect(), share, nonces) for share in shares)}
    poller = select.epoll()
    for fd in lanes:
        poller.register(fd, select.EPOLLIN)
    try:
        return _driven(poller, lanes, seconds, rate_per_s, tick)
    finally:
        poller.close()
        for lane in lanes.values():
            lane.connection.close()


def _driven(
    poller: select.epoll,
    lanes: dict[int, _Lane],
    seconds: float,
    rate_per_s: float | None,
    tick: Callable[[Tally], None],
) -> Tally:
    tally, begun = Tally(), time.perf_counter()
    sent, end, told = 0, begun + seconds, begun
    waiting = deque(lanes.values())  # who waited longest speaks next
    while True:
        now = time.perf_counter()
        while waiting and now < end and (rate_per_s is None or sent < (now - begun) * rate_per_s):
            waiting.popleft().send()
            sent += 1
        if now >= end and (len(waiting) == len(lanes) or now >= end + PATIENCE_S):
            break
        for fd, _ in poller.poll(WAIT_S if rate_per_s is None else 0.001):
            if lanes[fd].receive(tally):
                waiting.append(lanes[fd])
        if now - told > 0.2:
            told = now
            tick(tally)
    tally.seconds = time.perf_counter() - begun
    tally.lost = sum(not lane.idle for lane in lanes.values())
    return tally


def by_socket(path: Path) -> Connect:
    """Connect as the proxy does, by its unix socket."""

    def connect() -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.connect(str(path))
        return made

    return connect


def by_tls(port: int, contexts: Iterator[ssl.SSLContext]) -> Connect:
    """Connect to the devices' port, each time with the next certificate."""

    def connect() -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made = next(contexts).wrap_socket(plain, server_hostname="localhost")
        made.setblocking(False)
        return made

    return connect
