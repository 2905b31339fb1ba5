"""Blobs from the server: resumed across restarts, bounded in size, time, rate and disk, believed by digest alone."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from agents.link.blobs import BlobStore, Partial
from agents.link.client import DeviceClient, refuse_encoding, require_success
from agents.link.errors import LinkError

_BUFFER: Final = 1 << 20
_CONTENT_RANGE: Final = re.compile(r"^bytes ([0-9]{1,16})-([0-9]{1,16})/([0-9]{1,16}|\*)$")
_REDIRECTS: Final = {302, 303, 307, 308}


@dataclass(frozen=True)
class DownloadLimits:
    """`min_bytes_per_s` is judged over `rate_window_s`; the deadline is for one blob and one attempt."""

    deadline_s: float = 4 * 3600.0
    min_bytes_per_s: float = 1024.0
    rate_window_s: float = 30.0
    disk_reserve_bytes: int = 256 << 20


class Downloader:
    """`wrong_digests` counts blobs whose bytes were not what was promised; they are deleted, never installed."""

    def __init__(
        self,
        client: DeviceClient,
        blobs: BlobStore,
        limits: DownloadLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self.blobs, self._clock = client, blobs, clock
        self._limits = limits or DownloadLimits()
        self.wrong_digests = 0
        self.received_bytes = 0

    async def fetch(self, digest: str, size_bytes: int) -> Path:
        """Return the verified blob, fetched if it is not here yet.

        Raises:
            LinkError: it could not be fetched now; what has come so far stays for the next attempt.
        """
        if self.blobs.has(digest, size_bytes):
            return self.blobs.path(digest)
        self._check_disk(digest, size_bytes)
        partial = Partial(self.blobs.partial(digest), size_bytes)
        try:
            await asyncio.to_thread(partial.resume)
            if partial.received < size_bytes:
                await self._attempt(digest, size_bytes, partial)
            found = await asyncio.to_thread(partial.finish)
        except OSError as error:
            raise LinkError("disk_error", str(error)) from error
        finally:
            partial.close()
        return await asyncio.to_thread(self._judge, digest, found)

    def _check_disk(self, digest: str, size_bytes: int) -> None:
        here = self.blobs.partial(digest)
        missing = size_bytes - (here.stat().st_size if here.exists() else 0)
        if self.blobs.free_bytes() - missing < self._limits.disk_reserve_bytes:
            raise LinkError("disk_reserve", f"{missing} bytes would leave less than the reserve on the disk")

    def _judge(self, digest: str, found: str) -> Path:
        if found == digest:
            return self.blobs.keep(digest)
        self.wrong_digests += 1
        self.blobs.partial(digest).unlink(missing_ok=True)
        raise LinkError("wrong_digest", f"the bytes of {digest[:12]} have the sha256 {found[:12]}; deleted")

    async def _attempt(self, digest: str, size_bytes: int, partial: Partial) -> None:
        try:
            await asyncio.wait_for(self._transfer(digest, size_bytes, partial), self._limits.deadline_s)
        except asyncio.TimeoutError as error:
            raise LinkError("deadline", f"{digest[:12]} did not arrive in {self._limits.deadline_s:.0f} s") from error
        if partial.received != size_bytes:
            raise LinkError("truncated", f"{partial.received} of {size_bytes} bytes arrived")

    async def _transfer(self, digest: str, size_bytes: int, partial: Partial) -> None:
        headers = {"Range": f"bytes={partial.received}-"} if partial.received else {}
        url = self._client.route(f"blobs/sha256/{digest}")
        async with self._client.exchange("GET", url, headers=headers) as response:
            if response.status_code not in _REDIRECTS:
                await self._take(response, size_bytes, partial)
                return
            url = self._client.resolve(response.headers.get("Location", ""))
        # One hop, to an object store; the exchange does not sign for foreign hosts.
        async with self._client.exchange("GET", url, headers=headers) as response:
            await self._take(response, size_bytes, partial)

    async def _take(self, response: httpx.Response, size_bytes: int, partial: Partial) -> None:
        refuse_encoding(response)
        if response.status_code == 416:
            partial.restart()
            raise LinkError("range_refused", "the server has fewer bytes than we do; starting again", status=416)
        await require_success(response)
        if response.status_code == 206:
            _check_range(response, partial.received, size_bytes)
        else:
            partial.restart()
        announced = response.headers.get("Content-Length")
        if announced is not None and announced != str(size_bytes - partial.received):
            partial.restart()
            raise LinkError("wrong_size", f"{announced[:20]} bytes announced, {size_bytes} were promised")
        async for data in self._paced(response):
            if partial.received + len(data) > size_bytes:
                partial.restart()
                raise LinkError("too_large", f"more than the promised {size_bytes} bytes")
            await asyncio.to_thread(partial.add, data)
            self.received_bytes += len(data)

    async def _paced(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """Yield large pieces; a sender slower than the minimum rate is left after one window."""
        buffer, pace = bytearray(), _Pace(self._limits, self._clock)
        try:
            async for chunk in response.aiter_raw():
                buffer += chunk
                pace.check(len(chunk))
                if len(buffer) >= _BUFFER:
                    yield bytes(buffer)
                    buffer.clear()
        except (LinkError, httpx.TransportError):
            # What came before the line broke need not come again.
            if buffer:
                yield bytes(buffer)
            raise
        if buffer:
            yield bytes(buffer)


class _Pace:
    """Bytes per window, judged at the end of each window."""

    def __init__(self, limits: DownloadLimits, clock: Callable[[], float]) -> None:
        self._limits, self._clock = limits, clock
        self._start, self._bytes = clock(), 0

    def check(self, received: int) -> None:
        self._bytes += received
        elapsed = self._clock() - self._start
        if elapsed < self._limits.rate_window_s:
            return
        if self._bytes < elapsed * self._limits.min_bytes_per_s:
            raise LinkError("too_slow", f"{self._bytes} bytes in {elapsed:.0f} s")
        self._start, self._bytes = self._clock(), 0


def _check_range(response: httpx.Response, start: int, size_bytes: int) -> None:
    found = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != start or found[3] not in {str(size_bytes), "*"}:
        raise LinkError("wrong_range", f"asked for bytes from {start} of {size_bytes}, got another range")
