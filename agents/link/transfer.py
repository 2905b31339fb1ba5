"""One GET into a partial file, in a thread of its own: large reads into one buffer, written where they belong.

httpx hands out small pieces through several layers, which costs half the speed of a disk; this is the standard
library's client over the same credentials. Whoever watches the thread may end it at any time.
"""

import contextlib
import http.client
import re
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Final

import httpx

from agents.link.client import DeviceClient, MachineTrust, refuse_encoding, refused
from agents.link.errors import LinkError
from agents.link.partial import Partial

_BUFFER_BYTES: Final = 1 << 20
_KEPT_AFTER_S: Final = 1.0  # what a kill may cost on a slow line
_WORDS_BYTES: Final = 4096
_CONTENT_RANGE: Final = re.compile(r"^bytes ([0-9]{1,16})-([0-9]{1,16})/([0-9]{1,16}|\*)$")
_REDIRECTS: Final = {302, 303, 307, 308}
_MACHINE_TRUST: Final = MachineTrust(ssl.PROTOCOL_TLS_CLIENT)


class Transfer:
    """`run` blocks, `abort` ends it from another thread; `received_bytes` counts what came over the line."""

    def __init__(self, client: DeviceClient, partial: Partial, size_bytes: int, gap_s: float) -> None:
        self._client, self._partial, self._size_bytes, self._gap_s = client, partial, size_bytes, gap_s
        self._socket: socket.socket | None = None
        self._ended: LinkError | None = None
        self.received_bytes = 0

    def abort(self, why: LinkError) -> None:
        self._ended = self._ended or why
        line = self._socket
        if line is not None:
            with contextlib.suppress(OSError):
                # Not the method of an SSL socket, which takes away what the reading thread is using.
                socket.socket.shutdown(line, socket.SHUT_RDWR)

    def run(self, url: httpx.URL) -> None:
        """Bring the partial file to its full length.

        Raises:
            LinkError: not now; what came is in the file. OSError: the disk failed.
        """
        try:
            self._follow(url)
        except LinkError as error:
            raise self._ended or error from error

    def _follow(self, url: httpx.URL) -> None:
        # One hop, to an object store; requests to foreign hosts are not signed.
        location = self._exchange(url)
        if location is not None and self._exchange(self._client.resolve(location)) is not None:
            raise LinkError("refused_by_server", "the server leads from one address to the next")

    def _exchange(self, url: httpx.URL) -> str | None:
        headers, tls = self._client.plain_request("GET", url)
        if self._partial.received_bytes:
            headers["Range"] = f"bytes={self._partial.received_bytes}-"
        connection = _connection(url, tls, self._gap_s)
        try:
            with _network(url.host, "server_unreachable"):
                connection.connect()
                self._socket = connection.sock
                self._go_on()
                connection.request("GET", url.raw_path.decode(), headers=headers)
                response = connection.getresponse()
            with contextlib.closing(response):
                if response.status in _REDIRECTS:
                    return response.headers.get("Location", "")
                self._take(response, url.host)
        finally:
            connection.close()
        return None

    def _take(self, response: http.client.HTTPResponse, host: str) -> None:
        refuse_encoding(response.headers.get("Content-Encoding"))
        if not 200 <= response.status < 300:
            with _network(host, "connection_lost"):
                words = response.read(_WORDS_BYTES)
            raise refused(response.status, words, response.headers.get("Retry-After"))
        # A server that ignores ranges sends again what we have: what is here stays, and the final digest decides.
        start = self._partial.received_bytes if response.status == 206 else 0
        if response.status == 206:
            _check_range(response, start, self._size_bytes)
        announced = response.headers.get("Content-Length")
        if announced is not None and announced != str(self._size_bytes - start):
            raise LinkError("wrong_size", f"{announced[:20]} bytes announced, {self._size_bytes - start} were promised")
        self._receive(response, host, skip=self._partial.received_bytes - start)

    def _receive(self, response: http.client.HTTPResponse, host: str, skip: int) -> None:
        # One byte more than is left: a server that sends too much is to be noticed.
        missing = self._size_bytes - self._partial.received_bytes
        buffer = memoryview(bytearray(min(missing + 1, _BUFFER_BYTES)))
        filled, kept_at_s = 0, time.monotonic()
        try:
            while missing - filled > 0:
                with _network(host, "connection_lost"):
                    read = _read_into(response, buffer[filled:])
                self.received_bytes += read
                self._go_on()
                if read == 0:
                    raise LinkError("connection_lost", f"{host} stopped {missing - filled} bytes before the end")
                skipped = min(skip, read)
                if skipped:
                    buffer[filled : filled + read - skipped] = buffer[filled + skipped : filled + read]
                skip, filled = skip - skipped, filled + read - skipped
                if filled > missing:
                    raise LinkError("too_large", f"more than the promised {self._size_bytes} bytes")
                if filled == len(buffer) or time.monotonic() - kept_at_s > _KEPT_AFTER_S:
                    self._partial.write(buffer[:filled])
                    missing, filled, kept_at_s = missing - filled, 0, time.monotonic()
            self._must_end(response, host)
        finally:
            # What came before the line broke need not come again.
            self._partial.write(buffer[: min(filled, missing)])

    def _must_end(self, response: http.client.HTTPResponse, host: str) -> None:
        with _network(host, "connection_lost"):
            if response.read(1):
                raise LinkError("too_large", f"more than the promised {self._size_bytes} bytes")

    def _go_on(self) -> None:
        if self._ended is not None:
            raise self._ended


def _read_into(response: http.client.HTTPResponse, buffer: memoryview) -> int:
    """Return as soon as something is there; `HTTPResponse.readinto` would wait until the buffer is full."""
    if response.chunked:
        return response.readinto1(buffer)
    limit = len(buffer) if response.length is None else min(len(buffer), response.length)
    read = response.fp.readinto1(buffer[:limit]) if limit else 0
    if response.length is not None:
        response.length -= read
    return read


def _connection(url: httpx.URL, tls: ssl.SSLContext | None, gap_s: float) -> http.client.HTTPConnection:
    if url.scheme == "https":
        return http.client.HTTPSConnection(url.host, url.port, timeout=gap_s, context=tls or _MACHINE_TRUST)
    return http.client.HTTPConnection(url.host, url.port, timeout=gap_s)


@contextlib.contextmanager
def _network(host: str, reason: str) -> Iterator[None]:
    """Tell failures of the line from those of the disk, which are OSErrors too."""
    try:
        yield
    except TimeoutError as error:
        raise LinkError("timeout", f"{host} stopped sending") from error
    except (OSError, http.client.HTTPException) as error:
        raise LinkError(reason, f"{host}: {error or type(error).__name__}") from error


def _check_range(response: http.client.HTTPResponse, start: int, size_bytes: int) -> None:
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != start or found[3] not in {str(size_bytes), "*"}:
        raise LinkError("wrong_range", f"asked for bytes from {start} of {size_bytes}, got another range")
