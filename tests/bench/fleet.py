"""A simulated fleet in a bench's installation, an API process of the bench's own, and the bare app beside it."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from ssl import SSLContext

from control_plane.cli.processes import free_port
from control_plane.cli.simulated_fleet import Plan, Voice, make, tls_contexts
from control_plane.cli.simulated_load import Connect, Speaks, by_socket, by_tls, drive
from control_plane.cli.stack import Stack
from tests.bench.figure import say
from tests.bench.rounds import cpu_s
from tests.bench.stage import listens, wait_until

READY_S = 120.0
IN_MEMORY = "devices are in memory"


@dataclass(frozen=True, slots=True)
class Round:
    per_s: float
    per_cpu_s: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Speaking:
    """Who speaks on which connection, and with which certificates where each has its own."""

    kind: str
    shares: Sequence[Sequence[Speaks]]
    contexts: Sequence[SSLContext]


@dataclass(frozen=True, slots=True)
class Target:
    """A server to measure."""

    name: str
    pid: int
    socket: Path
    port: int

    def run(self, speak: Speaking, seconds: float) -> Round:
        """Let devices speak for some seconds.

        Raises:
            RuntimeError: one of them was refused.
        """
        before = cpu_s(self.pid)
        tally = drive(self._connect(speak), speak.shares, seconds)
        if tally.bad or not tally.done:
            raise RuntimeError(f"{tally.bad} requests were refused, the first with {tally.first_bad}")
        say(f"{self.name}: {tally.per_s:.0f}/s")
        spent_s = cpu_s(self.pid) - before
        return Round(tally.per_s, tally.done / spent_s, tally.quantile_ms(0.99))

    def _connect(self, speak: Speaking) -> Connect:
        if speak.kind == "proxied":
            return by_socket(self.socket)
        return by_tls(self.port, cycle(speak.contexts))


def authority_file(home: Path) -> Path:
    return home / "keys" / "device-ca.pem"


def made(stack: Stack, plan: Plan) -> list[Voice]:
    begun = time.monotonic()
    url = stack.database_url or ""
    voices = asyncio.run(make(url, authority_file(stack.home), "fleetloop", plan, lambda _: None))
    say(f"{plan.devices} devices made in {time.monotonic() - begun:.0f} s")
    return voices


def speaking(kind: str, voices: Sequence[Voice], stack: Stack, lanes: int) -> Speaking:
    """Share devices out among connections; by TLS each connection is one device's."""
    speakers = [voice.speaker(proxied=kind == "proxied") for voice in voices]
    contexts = tls_contexts(voices, authority_file(stack.home)) if kind == "tls" else []
    return Speaking(kind, [speakers[lane::lanes] for lane in range(lanes)], contexts)


@contextmanager
def api(stack: Stack, name: str) -> Iterator[Target]:
    """Run an API process beside the stack's own, with the fleet in its memory before it is given."""
    socket, port, log = stack.home / f"{name}.sock", free_port(), stack.home / "logs" / f"{name}.log"
    command = [sys.executable, "-m", "control_plane.main", "--port", str(free_port())]
    command += ["--device-port", str(port), "--proxied-socket", str(socket)]
    with (
        log.open("wb") as file,
        subprocess.Popen(command, env=os.environ | stack.environment(), stdout=file, stderr=file) as process,
    ):
        try:
            wait_until(lambda: IN_MEMORY in log.read_text() and socket.exists(), name, READY_S)
            yield Target(name, process.pid, socket, port)
        finally:
            process.terminate()


@contextmanager
def bare(stack: Stack, kind: str, size: int) -> Iterator[Target]:
    """Run the bare app by the same kind of listener."""
    socket, port = stack.home / f"bare-{kind}.sock", free_port()
    where = str(socket) if kind == "proxied" else f"{port}:{authority_file(stack.home)}"
    with subprocess.Popen([sys.executable, "-m", "tests.bench.bare", kind, str(size), where]) as process:
        try:
            wait_until(lambda: socket.exists() or (kind == "tls" and listens(port)), "bare", READY_S)
            yield Target("bare", process.pid, socket, port)
        finally:
            process.terminate()
