"""A load that goes on when a server does not: who gets no answer, or a 5xx, comes again at another replica.

As agents do: telemetry is sent again with the same numbers until it is acknowledged, a check-in is made anew.
"""

import socket
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from control_plane.cli.simulated_load import Speaks, Teller

TRIES = 60
PAUSE_S = 0.1
ANSWER_S = 10.0
READ_BYTES = 1 << 16


@dataclass
class Told:
    """What one lane saw: `acknowledged` are windows by their teller, `failed` had no answer after all tries."""

    check_ins: int = 0
    again: int = 0
    failed: int = 0
    refused: list[str] = field(default_factory=list)
    acknowledged: dict[int, int] = field(default_factory=lambda: defaultdict(int))


class Lane(threading.Thread):
    """Some devices that take turns on one connection, at most so many requests a second."""

    def __init__(self, speakers: Sequence[Speaks], replicas: Sequence[Path], rate_per_s: float, first: int) -> None:
        super().__init__(daemon=True)
        self.speakers, self.replicas, self.rate_per_s = speakers, replicas, rate_per_s
        self.told, self.ends = Told(), threading.Event()
        self._at, self._connection = first, None  # type: ignore[var-annotated] # a socket, once there is one
        self._nonces = count(time.time_ns() + first)

    def run(self) -> None:
        begun, sent = time.monotonic(), 0
        while not self.ends.is_set():
            wait_s = begun + sent / self.rate_per_s - time.monotonic()
            if wait_s > 0:
                time.sleep(wait_s)
            self._say(self.speakers[sent % len(self.speakers)])
            sent += 1

    def _say(self, speaker: Speaks) -> None:
        request = speaker.request(next(self._nonces))
        for tries in range(TRIES):
            status = self._ask(request)
            if status == b"200":
                self.told.again += bool(tries)
                self._count(speaker)
                return
            if status not in (b"", b"502", b"503"):
                self.told.refused.append(status.decode())
                return
            time.sleep(PAUSE_S)
            if not isinstance(speaker, Teller):
                request = speaker.request(next(self._nonces))
        self.told.failed += 1

    def _count(self, speaker: Speaks) -> None:
        if isinstance(speaker, Teller):
            self.told.acknowledged[id(speaker)] += 1
        else:
            self.told.check_ins += 1

    def _ask(self, request: bytes) -> bytes:
        """Return the status of the answer, b"" where there was none; the next try goes elsewhere."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            self._connection.sendall(request)
            return self._answer(self._connection)
        except OSError:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
            self._at += 1
            return b""

    def _connect(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(ANSWER_S)
        made.connect(str(self.replicas[self._at % len(self.replicas)]))
        return made

    @staticmethod
    def _answer(connection: socket.socket) -> bytes:
        data = b""
        while True:
            end, place = data.find(b"\r\n\r\n"), data.lower().find(b"content-length: ")
            if end >= 0 and place >= 0:
                size = int(data[place + 16 : data.find(b"\r", place)])
                if len(data) >= end + 4 + size:
                    return data[9:12]
            more = connection.recv(READ_BYTES)
            if not more:
                raise ConnectionError("closed")
            data += more
