"""Signatures made in a process beside this one, so that an event loop does not stand still for each of them.

Whatever is wrong with that process costs time and never an answer: what it has not signed is signed here.
"""

import asyncio
import logging
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from control_plane.kit.sign_loop import IS_KEY, SIGNATURE_BYTES

IN_FLIGHT_MOST = 4096
RETRY_S = 1.0

log = logging.getLogger("fleetloop.signing")


class BesideSigner(asyncio.Protocol):
    """Signs with the process beside this one while it runs; `run` keeps it running."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._waiting: deque[tuple[Callable[[bytes], None], bytes, Ed25519PrivateKey]] = deque()
        self._outgoing: list[bytes] = []
        self._key: Ed25519PrivateKey | None = None
        self._buffer = b""
        self._ended, self._wanted = asyncio.Event(), asyncio.Event()

    def sign(self, key: Ed25519PrivateKey, message: bytes, done: Callable[[bytes], None]) -> None:
        """Call `done` with the signature: soon, or at once where there is nobody beside."""
        if self._transport is None or len(self._waiting) >= IN_FLIGHT_MOST:
            self._wanted.set()
            done(key.sign(message))
            return
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._send)  # with all that this turn of the loop brings
        if key is not self._key:
            self._key = key
            secret = key.private_bytes_raw()
            self._outgoing += ((len(secret) | IS_KEY).to_bytes(4, "big"), secret)
        self._outgoing += (len(message).to_bytes(4, "big"), message)
        self._waiting.append((done, message, key))

    def _send(self) -> None:
        if self._transport is not None:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        whole = len(data) - len(data) % SIGNATURE_BYTES
        for at in range(0, whole, SIGNATURE_BYTES):
            self._waiting.popleft()[0](data[at : at + SIGNATURE_BYTES])
        self._buffer = data[whole:]

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport, self._key, self._buffer = None, None, b""
        self._outgoing.clear()
        waiting, self._waiting = self._waiting, deque()
        for done, message, key in waiting:
            done(key.sign(message))
        self._ended.set()

    async def run(self) -> None:
        """Keep the process running from the first wish on, until this is cancelled."""
        await self._wanted.wait()
        while True:
            await self._run_once()
            log.warning("the signing process ended; signing goes on in this one")
            await asyncio.sleep(RETRY_S)

    async def _run_once(self) -> None:
        ours, theirs = socket.socketpair()
        self._ended.clear()
        with ours:
            process = _begin(theirs)
            try:
                transport, _ = await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)
                self._transport = transport
                try:
                    await self._ended.wait()
                finally:
                    transport.close()
            finally:
                _end(process)


def _begin(theirs: socket.socket) -> "subprocess.Popen[bytes]":
    with theirs:
        command = (sys.executable, "-m", "control_plane.kit.sign_loop")
        return subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process that keeps nothing; what it had not signed is signed when its connection is found lost."""
    process.kill()
    process.wait()
