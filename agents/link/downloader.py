"""Blobs from the server: resumed across restarts, bounded in size, time, rate and disk, believed by digest alone.

Whatever server answers, the digest names the bytes: an attempt goes on where the last one ended, also from another
address and past another ETag, and a mixture of two files is found out at the end.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from agents.link.blobs import BlobStore
from agents.link.client import DeviceClient
from agents.link.errors import LinkError
from agents.link.partial import Partial
from agents.link.transfer import Transfer

_LOOK_S: Final = 0.25
_LEAST_INODES: Final = 256


@dataclass(frozen=True)
class DownloadLimits:
    """`min_bytes_per_s` is judged over `rate_window_s`; the deadline is for one blob and one attempt.

    `gap_s` is the longest silence on the line.
    """

    deadline_s: float = 4 * 3600.0
    min_bytes_per_s: float = 1024.0
    rate_window_s: float = 30.0
    disk_reserve_bytes: int = 256 << 20
    gap_s: float = 20.0


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
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self.wrong_digests = 0
        self.received_bytes = 0

    async def fetch(self, digest: str, size_bytes: int) -> Path:
        """Return the verified blob, fetched if it is not here yet.

        Raises:
            LinkError: it could not be fetched now; what has come so far stays for the next attempt.
        """
        turn = self._turns.setdefault(digest, asyncio.Lock())
        async with turn:
            if self.blobs.has(digest, size_bytes):
                return self.blobs.path(digest)
            self.blobs.coming.add(digest)
            try:
                self.check_room({digest: size_bytes})
                found = await self._fetched(digest, size_bytes)
                return await asyncio.to_thread(self._judge, digest, found)
            except OSError as error:
                raise LinkError("disk_error", str(error)) from error
            finally:
                self.blobs.coming.discard(digest)

    def check_room(self, wanted: Mapping[str, int]) -> None:
        """Say no before anything is written: bytes, reserve and names must all be there for everything together.

        Raises:
            LinkError: the disk is too small. OSError: it cannot be asked.
        """
        missing = sum(self.blobs.missing_bytes(digest, size_bytes) for digest, size_bytes in wanted.items())
        disk = os.statvfs(self.blobs.prepare())
        if missing and disk.f_bavail * disk.f_frsize - missing < self._limits.disk_reserve_bytes:
            raise LinkError("disk_reserve", f"{missing} bytes would leave less than the reserve on the disk")
        # Some file systems make inodes as they need them, and say that there are none.
        if disk.f_files and disk.f_favail < _LEAST_INODES + len(wanted):
            raise LinkError("disk_inodes", f"the disk has room for {disk.f_favail} more files only")

    async def _fetched(self, digest: str, size_bytes: int) -> str:
        """Return the sha256 of what is in the partial file once it has its full length."""
        partial = Partial(self.blobs.partial(digest), size_bytes)
        try:
            if partial.received_bytes < size_bytes:
                await self._transferred(digest, size_bytes, partial)
            return await asyncio.to_thread(partial.finish)
        except LinkError as error:
            if error.reason == "too_large":
                self.blobs.partial(digest).unlink(missing_ok=True)
            raise
        finally:
            await asyncio.to_thread(partial.close)

    async def _transferred(self, digest: str, size_bytes: int, partial: Partial) -> None:
        transfer = Transfer(self._client, partial, size_bytes, self._limits.gap_s)
        url = self._client.route(f"blobs/sha256/{digest}")
        work = asyncio.ensure_future(asyncio.to_thread(transfer.run, url))
        try:
            await self._watch(work, transfer, digest)
        finally:
            transfer.abort(LinkError("cancelled", "the download was given up"))
            # Nobody may write behind the back of the next attempt: not before the thread is gone do we leave.
            await asyncio.wait({work})
            self.received_bytes += transfer.received_bytes
        work.result()

    async def _watch(self, work: "asyncio.Future[None]", transfer: Transfer, digest: str) -> None:
        pace, begun_s = _Pace(self._limits, self._clock), self._clock()
        look_s = min(_LOOK_S, self._limits.deadline_s / 4, self._limits.rate_window_s / 4)
        while not (await asyncio.wait({work}, timeout=look_s))[0]:
            if self._clock() - begun_s > self._limits.deadline_s:
                transfer.abort(LinkError("deadline", f"{digest[:12]} not here after {self._limits.deadline_s:.0f} s"))
            slow = pace.too_slow(transfer.received_bytes)
            if slow:
                transfer.abort(LinkError("too_slow", slow))

    def _judge(self, digest: str, found: str) -> Path:
        if found == digest:
            return self.blobs.keep(digest)
        self.wrong_digests += 1
        self.blobs.partial(digest).unlink(missing_ok=True)
        raise LinkError("wrong_digest", f"the bytes of {digest[:12]} have the sha256 {found[:12]}; deleted")


class _Pace:
    """Bytes per window, judged at the end of each window."""

    def __init__(self, limits: DownloadLimits, clock: Callable[[], float]) -> None:
        self._limits, self._clock = limits, clock
        self._start_s, self._before_bytes = clock(), 0

    def too_slow(self, received_bytes: int) -> str | None:
        elapsed_s, came = self._clock() - self._start_s, received_bytes - self._before_bytes
        if elapsed_s < self._limits.rate_window_s:
            return None
        self._start_s, self._before_bytes = self._clock(), received_bytes
        too_few = came < elapsed_s * self._limits.min_bytes_per_s
        return f"{came} bytes in {elapsed_s:.0f} s" if too_few else None
