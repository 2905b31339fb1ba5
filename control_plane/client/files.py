"""Files to and from the object store: in parts that outlive a killed upload, under a name only once they are right."""

import hashlib
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import httpx

from control_plane.client.ask import Ask, segment
from control_plane.client.errors import ClientError, Refused
from control_plane.factory.schemas import FileRef
from control_plane.registry.schemas import ArtifactCreate, ArtifactTicket, PartsCreate, PartsTicket, PartTicket

T = TypeVar("T")
Told = Callable[[int, int], None]
"""Is told how many bytes are over there, and of how many."""
CHUNK_BYTES = 1 << 20
PART_BYTES = 8 << 20
JOIN_S = 1800.0  # the server reads all of it once more
OCTETS = {"Content-Type": "application/octet-stream"}


class Files(Protocol):
    """Uploads and downloads, over a client's calls."""

    @abstractmethod
    def make(self, ask: Ask[T]) -> T: ...

    @abstractmethod
    def patiently(self, call: Callable[[], T]) -> T: ...

    @abstractmethod
    def stream(self, url: str) -> AbstractContextManager[httpx.Response]: ...

    @abstractmethod
    def put_bytes(self, url: str, content: Any, headers: Mapping[str, str]) -> None: ...

    def upload(self, path: Path, *, part_bytes: int = PART_BYTES, told: Told | None = None) -> FileRef:
        """Put a file into the object store, unless it is there; return its digest and size.

        A file of more than one part goes over in parts. Called again after a crash, it sends only those that are not
        there, from this machine or from another one.

        >>> with Client(server, token) as client:
        ...     ref = client.upload(path)
        ...     client.download(ref.sha256, path.with_name("copy"))
        >>> path.with_name("copy").read_bytes() == path.read_bytes()
        True
        """
        ref = file_digest(path)
        if ref.size_bytes > part_bytes:
            self._upload_parts(path, ref, part_bytes, told or _nobody)
        else:
            self._upload_whole(path, ref)
        (told or _nobody)(ref.size_bytes, ref.size_bytes)
        return ref

    def _upload_whole(self, path: Path, ref: FileRef) -> None:
        body = ArtifactCreate(sha256=ref.sha256, size_bytes=ref.size_bytes)
        url = self.make(Ask(ArtifactTicket, "POST", "/artifacts", body)).upload_url
        if url is not None:
            self.patiently(lambda: self._put(url, path, 0, ref.size_bytes))

    def _upload_parts(self, path: Path, ref: FileRef, part_bytes: int, told: Told) -> None:
        place = f"/artifacts/{ref.sha256}/parts"
        body = PartsCreate(size_bytes=ref.size_bytes, part_bytes=part_bytes)
        ticket = self.make(Ask(PartsTicket, "POST", place, body))
        while ticket.missing:
            self._send_parts(path, ticket, told)
            left = self.make(Ask(PartsTicket, "POST", place, body))
            if left.missing >= ticket.missing:
                raise ClientError(0, "parts_lost", f"the object store keeps no parts of {ref.sha256}")
            ticket = left
        if not ticket.have:
            self.make(Ask(PartsTicket, "POST", f"{place}/join", body, timeout_s=JOIN_S))

    def _send_parts(self, path: Path, ticket: PartsTicket, told: Told) -> None:
        """Send what this ticket names; where its URLs have expired meanwhile, the next ticket has new ones."""
        there = ticket.size_bytes - ticket.missing_bytes
        for part in ticket.parts:
            told(there, ticket.size_bytes)
            try:
                self.patiently(partial(self._put_part, path, part))
            except Refused as error:
                if error.code != "bad_object_url" or part == ticket.parts[0]:
                    raise
                return
            there += part.size_bytes

    def _put_part(self, path: Path, part: PartTicket) -> None:
        self._put(part.upload_url, path, part.start, part.size_bytes)

    def _put(self, url: str, path: Path, start: int, size_bytes: int) -> None:
        with path.open("rb") as file:
            file.seek(start)
            self.put_bytes(url, _pieces(file, size_bytes), OCTETS | {"Content-Length": str(size_bytes)})

    def download(self, sha256: str, target: Path, *, told: Told | None = None) -> None:
        """Get a file; it appears under its name only once its digest is right."""
        self.patiently(lambda: self._download_once(sha256, target, told or _nobody))

    def _download_once(self, sha256: str, target: Path, told: Told) -> None:
        url = self.make(Ask(ArtifactTicket, "GET", f"/artifacts/{segment(sha256)}")).download_url or ""
        target.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: another download of the same file must not write into this one.
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name[:40]}.", delete=False) as file:
            unfinished = Path(file.name)
            try:
                digest = self._stream_into(url, file, told)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
        if digest != sha256:
            unfinished.unlink()
            raise ClientError(0, "corrupt", f"{sha256} arrived with another digest")
        unfinished.replace(target)

    def _stream_into(self, url: str, file: IO[bytes], told: Told) -> str:
        digest, there = hashlib.sha256(), 0
        with self.stream(url) as answer:
            size_bytes = int(answer.headers.get("Content-Length", "0"))
            for chunk in answer.iter_bytes(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
                there += len(chunk)
                told(there, size_bytes)
        return digest.hexdigest()


def file_digest(path: Path) -> FileRef:
    """Return a file's sha256 in hex and its size in bytes."""
    digest, size_bytes = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
    return FileRef(sha256=digest.hexdigest(), size_bytes=size_bytes)


def _pieces(file: IO[bytes], size_bytes: int) -> Iterator[bytes]:
    while size_bytes and (chunk := file.read(min(CHUNK_BYTES, size_bytes))):
        size_bytes -= len(chunk)
        yield chunk


def _nobody(_there: int, _of: int) -> None:
    """Hear of progress, and do nothing."""
