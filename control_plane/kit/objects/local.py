"""The object store in a directory: atomic files, and URLs that this process signs and the HTTP route checks."""

import asyncio
import hashlib
import hmac
import os
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote, urlencode

from control_plane.kit.objects import checked
from control_plane.kit.objects.errors import BadUrlError, CorruptObjectError, ObjectMissingError
from control_plane.kit.objects.parts import PartFolder
from control_plane.kit.objects.port import (
    CHUNK,
    MAX_IN_MEMORY,
    MAX_OBJECT,
    Layout,
    Listed,
    Source,
    Stored,
    check_digest,
    check_name,
    check_size,
    object_key,
)

DOWNLOAD, UPLOAD, PART = "get", "put", "part"
ASIDE = "unused"
LONGEST_S = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Grant:
    """What a good URL allows: `size` is exactly how many bytes may be put, None for a download.

    `part` is the size of parts and the number of this one, if it is one.
    """

    op: str
    sha256: str
    size: int | None
    part: tuple[int, int] | None = None


class LocalStore:
    """Objects under `root`, names beside them; `secret` signs URLs, `base_url` is put before them."""

    def __init__(
        self, root: Path, secret: bytes, *, base_url: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        if len(secret) < 16:
            raise ValueError("the secret that signs object URLs needs at least 16 bytes")
        self._root = root
        self._parts = PartFolder(root)
        self._secret = secret
        self._base_url = base_url.rstrip("/")
        self._clock = clock

    async def start(self) -> None:
        await asyncio.to_thread(self._make_folders)

    def _make_folders(self) -> None:
        for name in ("sha256", "names", "tmp"):
            (self._root / name).mkdir(parents=True, exist_ok=True)
        self._parts.sweep()

    async def close(self) -> None:
        """Nothing is held open."""

    async def put_bytes(self, data: bytes, sha256: str | None = None) -> Stored:
        found = checked.stored(data, sha256 and check_digest(sha256), MAX_IN_MEMORY)
        await asyncio.to_thread(self._put_bytes, data, found.sha256)
        return found

    def _put_bytes(self, data: bytes, sha256: str) -> None:
        with self._temporary() as (path, file):
            file.write(data)
            _keep(path, file, self._path(sha256))

    async def put_file(self, source: Source, sha256: str | None = None, *, max_size: int = MAX_OBJECT) -> Stored:
        wanted = sha256 and check_digest(sha256)
        if isinstance(source, Path):
            return await asyncio.to_thread(self._put_path, source, wanted, max_size)
        digest, size = hashlib.sha256(), 0
        with self._temporary() as (path, file):
            async for chunk in source:
                size = check_size(size + len(chunk), max_size)
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
            found = checked.expect(Stored(digest.hexdigest(), size), wanted)
            await asyncio.to_thread(_keep, path, file, self._path(found.sha256))
        return found

    def _put_path(self, source: Path, sha256: str | None, most: int) -> Stored:
        with self._temporary() as (path, file):
            found = checked.expect(checked.copy_file(source, file, most), sha256)
            _keep(path, file, self._path(found.sha256))
        return found

    async def open(self, sha256: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        chunks = self._chunks(self._path(sha256), max(start, 0), stop)
        whole = start <= 0 and stop is None
        async with aclosing(checked.checked(chunks, sha256) if whole else chunks) as out:
            async for chunk in out:
                yield chunk

    async def _chunks(self, path: Path, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        file = await asyncio.to_thread(_open, path)
        try:
            file.seek(start)
            left = None if stop is None else max(stop - start, 0)
            while chunk := await asyncio.to_thread(file.read, CHUNK if left is None else min(CHUNK, left)):
                left = None if left is None else left - len(chunk)
                yield chunk
        finally:
            file.close()

    async def read(self, sha256: str, *, max_size: int = MAX_IN_MEMORY) -> bytes:
        return await checked.gather(self.open(sha256), max_size)

    async def stat(self, sha256: str) -> Stored | None:
        try:
            return Stored(sha256, (await asyncio.to_thread(self._path(sha256).stat)).st_size)
        except FileNotFoundError:
            return None

    async def exists(self, sha256: str) -> bool:
        return await self.stat(sha256) is not None

    async def delete(self, sha256: str) -> None:
        await asyncio.to_thread(self._path(sha256).unlink, missing_ok=True)

    async def upload_url(self, sha256: str, size: int, expires_s: int) -> str:
        return self._url(UPLOAD, sha256, expires_s, check_size(size, MAX_OBJECT))

    async def accept(self, sha256: str, size: int) -> Stored:
        """Look whether it is there: the route that took it in has checked every byte already."""
        found = await self.stat(sha256)
        if found is None:
            raise ObjectMissingError(f"nothing was put for {sha256}")
        await asyncio.to_thread(os.utime, self._path(sha256))
        return checked.expect_size(found, size)

    async def parts(self, sha256: str, layout: Layout) -> set[int]:
        return await asyncio.to_thread(self._parts.there, sha256, layout)

    async def part_urls(self, sha256: str, layout: Layout, numbers: Sequence[int], expires_s: int) -> list[str]:
        return [
            self._url(f"{PART}.{layout.part}.{number}", sha256, expires_s, layout.size_of(number)) for number in numbers
        ]

    async def put_part(self, sha256: str, grant: Grant, source: AsyncIterable[bytes]) -> None:
        """Take one part in; whether it is the right one is seen when all are joined."""
        wanted, size = grant.size or 0, 0
        part, number = grant.part or (0, 0)
        target = self._parts.path(sha256, part, number)
        with self._temporary() as (path, file):
            async for chunk in source:
                size = check_size(size + len(chunk), wanted)
                await asyncio.to_thread(file.write, chunk)
            if size != wanted:
                raise CorruptObjectError(f"part {number} has {size} bytes, {wanted} were announced")
            await asyncio.to_thread(_keep, path, file, target)

    async def join(self, sha256: str, layout: Layout) -> Stored:
        try:
            found = await self.put_file(self._parts.read(sha256, layout), sha256, max_size=layout.size)
        except FileNotFoundError as error:
            raise ObjectMissingError(f"not all parts of {sha256} are there") from error
        except CorruptObjectError:
            await asyncio.to_thread(self._parts.drop, sha256, layout)
            raise
        await asyncio.to_thread(self._parts.drop, sha256, layout)
        return found

    async def download_url(self, sha256: str, expires_s: int) -> str:
        return self._url(DOWNLOAD, sha256, expires_s, None)

    def verify_url(self, op: str, sha256: str, query: Mapping[str, str], now: float) -> Grant:
        """Say what the URL allows.

        Raises:
            BadUrlError: it is expired, altered, or was given out for something else.
        """
        check_digest(sha256)
        name, *numbers = op.split(".")
        size, expires = query.get("size", ""), query.get("expires", "")
        given, right = query.get("sig", ""), self._sign(op, sha256, expires, size)
        if not hmac.compare_digest(given.encode(errors="replace"), right.encode()) or name not in {
            DOWNLOAD,
            UPLOAD,
            PART,
        }:
            raise BadUrlError("this URL was not given out for that")
        if now >= int(expires):
            raise BadUrlError("this URL has expired")
        part = (int(numbers[0]), int(numbers[1])) if name == PART else None
        return Grant(name, sha256, int(size) if size else None, part)

    def _url(self, op: str, sha256: str, expires_s: int, size: int | None) -> str:
        check_digest(sha256)
        expires = str(int(self._clock()) + min(max(expires_s, 1), LONGEST_S))
        limits = {"expires": expires} | ({} if size is None else {"size": str(size)})
        signature = self._sign(op, sha256, expires, limits.get("size", ""))
        return f"{self._base_url}/objects/v1/{op}/{sha256}?{urlencode(limits | {'sig': signature})}"

    def _sign(self, op: str, sha256: str, expires: str, size: str) -> str:
        message = f"fleetloop.object-url/v1\n{op}\n{sha256}\n{expires}\n{size}"
        return hmac.new(self._secret, message.encode(), hashlib.sha256).hexdigest()

    async def publish(self, name: str, data: bytes) -> bool:
        check_size(len(data), MAX_IN_MEMORY)
        return await asyncio.to_thread(self._publish, self._named(name), data)

    def _publish(self, target: Path, data: bytes) -> bool:
        with self._temporary() as (path, file):
            file.write(data)
            _flush(file)
            try:
                os.link(path, target)
            except FileExistsError:
                return False
        _sync_folder(target.parent)
        return True

    async def read_name(self, name: str, *, max_size: int = MAX_IN_MEMORY) -> bytes | None:
        try:
            return await checked.gather(self._chunks(self._named(name), 0, None), max_size)
        except ObjectMissingError:
            return None

    async def list_names(self, prefix: str = "") -> AsyncGenerator[str, None]:
        for name in await asyncio.to_thread(self._names, prefix):
            yield name

    def _names(self, prefix: str) -> list[str]:
        names = (unquote(entry.name) for entry in (self._root / "names").iterdir())
        return sorted(name for name in names if name.startswith(prefix))

    async def list_objects(self) -> AsyncGenerator[Listed, None]:
        for found in await asyncio.to_thread(_listed, self._root):
            yield found

    async def set_aside(self, sha256: str) -> None:
        await asyncio.to_thread(_move, self._path(sha256), self._aside(sha256))

    async def list_aside(self) -> AsyncGenerator[Listed, None]:
        for found in await asyncio.to_thread(_listed, self._root / ASIDE):
            yield found

    async def bring_back(self, sha256: str) -> None:
        await asyncio.to_thread(_move, self._aside(sha256), self._path(sha256))

    async def forget(self, sha256: str) -> None:
        await asyncio.to_thread(self._aside(sha256).unlink, missing_ok=True)

    def _aside(self, sha256: str) -> Path:
        return self._root / ASIDE / object_key(sha256)

    def _path(self, sha256: str) -> Path:
        return self._root / object_key(sha256)

    def _named(self, name: str) -> Path:
        return self._root / "names" / quote(check_name(name), safe="")

    @contextmanager
    def _temporary(self) -> Iterator[tuple[Path, BinaryIO]]:
        handle, name = tempfile.mkstemp(dir=self._root / "tmp")
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield path, file
        finally:
            with suppress(FileNotFoundError):
                path.unlink()


def _listed(root: Path) -> list[Listed]:
    files = ((path.name, path.stat()) for path in (root / "sha256").glob("*/*/*") if path.is_file())
    listed = (Listed(name, at.st_size, datetime.fromtimestamp(at.st_mtime, UTC)) for name, at in files)
    return sorted(listed, key=lambda found: found.sha256)


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        os.utime(path)
        path.replace(target)


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise ObjectMissingError(f"there is no object {path.name}") from None


def _keep(path: Path, file: BinaryIO, target: Path) -> None:
    """Make a finished temporary file the object, so that a power cut leaves all of it or nothing."""
    _flush(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)
    for folder in (target.parent, target.parent.parent, target.parent.parent.parent):
        _sync_folder(folder)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
