"""Downloads from servers that are slow, broken, changed or hostile (attack cases A 13-15 and C 34-37)."""

import asyncio
import contextlib
import gzip
import http.server
import json
import os
import resource
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from agents.link import BlobStore, DeviceClient, Downloader, DownloadLimits, LinkError
from agents.link.identity import load_key
from agents.link.partial import Partial
from agents.protocol.v1 import canonical_json, digest_of
from agents.sdk import StateDir
from tests.agent.server import FleetServer

DATA = bytes(range(256)) * 40
DIGEST = sha256(DATA).hexdigest()
NO_RESERVE = DownloadLimits(disk_reserve_bytes=0)


@pytest.fixture
def blobs(state: StateDir) -> BlobStore:
    store = BlobStore(state.blobs)
    store.prepare()
    return store


@pytest.fixture
def downloader(client: DeviceClient, blobs: BlobStore) -> Downloader:
    return Downloader(client, blobs, NO_RESERVE)


async def test_a_blob_arrives_once(server: FleetServer, downloader: Downloader) -> None:
    digest = server.put(DATA)
    path = await downloader.fetch(digest, len(DATA))
    assert path.read_bytes() == DATA
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    server.faults.add("500")
    assert await downloader.fetch(digest, len(DATA)) == path


async def test_c35_a_cut_download_resumes_where_it_stopped(
    server: FleetServer, client: DeviceClient, downloader: Downloader, blobs: BlobStore
) -> None:
    digest = server.put(DATA)
    server.faults.add("truncated")
    with pytest.raises(LinkError):
        await downloader.fetch(digest, len(DATA))
    assert blobs.partial(digest).stat().st_size == 1000
    server.faults.clear()
    # A new process: all it has is the partial file.
    again = Downloader(client, blobs, DownloadLimits(disk_reserve_bytes=0))
    assert (await again.fetch(digest, len(DATA))).read_bytes() == DATA
    assert server.requests[-1].headers["range"] == "bytes=1000-"
    assert again.received_bytes == len(DATA) - 1000


async def test_c36_a_server_that_ignores_ranges_costs_time_not_correctness(
    server: FleetServer, downloader: Downloader, blobs: BlobStore
) -> None:
    digest = server.put(DATA)
    blobs.prepare()
    blobs.partial(digest).write_bytes(DATA[:700])
    server.faults.add("range_ignored")
    assert (await downloader.fetch(digest, len(DATA))).read_bytes() == DATA


async def test_c35_a_partial_file_that_was_altered_is_found_out(
    server: FleetServer, downloader: Downloader, blobs: BlobStore
) -> None:
    digest = server.put(DATA)
    blobs.prepare()
    blobs.partial(digest).write_bytes(b"x" * 700)
    with pytest.raises(LinkError) as failure:
        await downloader.fetch(digest, len(DATA))
    assert failure.value.reason == "wrong_digest"
    assert downloader.wrong_digests == 1
    assert (await downloader.fetch(digest, len(DATA))).read_bytes() == DATA


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("wrong_digest", "wrong_digest"),
        ("too_long", "too_large"),
        ("gzip", "content_encoding"),
        ("500", "server_error"),
        ("truncated", "connection_lost"),
    ],
)
async def test_c34_a_bad_blob_never_appears(
    server: FleetServer, downloader: Downloader, blobs: BlobStore, fault: str, reason: str
) -> None:
    digest = server.put(DATA)
    server.faults.add(fault)
    with pytest.raises(LinkError) as failure:
        await downloader.fetch(digest, len(DATA))
    assert failure.value.reason == reason
    assert not blobs.path(digest).exists()


async def test_c36_another_range_than_asked_for_is_refused(
    server: FleetServer, downloader: Downloader, blobs: BlobStore
) -> None:
    digest = server.put(DATA)
    blobs.prepare()
    blobs.partial(digest).write_bytes(DATA[:700])
    server.faults.add("wrong_range")
    with pytest.raises(LinkError) as failure:
        await downloader.fetch(digest, len(DATA))
    assert failure.value.reason == "wrong_range"


async def test_c34_a_length_other_than_promised_is_refused_before_it_is_read(
    server: FleetServer, downloader: Downloader
) -> None:
    digest = server.put(DATA)
    with pytest.raises(LinkError) as failure:
        await downloader.fetch(digest, len(DATA) - 1)
    assert failure.value.reason == "wrong_size"
    assert downloader.received_bytes == 0


async def test_a14_a_slow_body_is_left_and_what_came_is_kept(
    server: FleetServer, client: DeviceClient, blobs: BlobStore
) -> None:
    digest = server.put(DATA)
    server.faults.add("slow")
    limits = DownloadLimits(min_bytes_per_s=10_000, rate_window_s=0.2, disk_reserve_bytes=0)
    with pytest.raises(LinkError) as failure:
        await Downloader(client, blobs, limits).fetch(digest, len(DATA))
    assert failure.value.reason == "too_slow"
    assert 0 < blobs.partial(digest).stat().st_size < len(DATA)


async def test_a_download_has_a_deadline(server: FleetServer, client: DeviceClient, blobs: BlobStore) -> None:
    digest = server.put(DATA)
    server.faults.add("slow")
    limits = DownloadLimits(deadline_s=0.3, min_bytes_per_s=0, disk_reserve_bytes=0)
    with pytest.raises(LinkError) as failure:
        await Downloader(client, blobs, limits).fetch(digest, len(DATA))
    assert failure.value.reason == "deadline"


async def test_c37_the_disk_reserve_is_not_touched(server: FleetServer, client: DeviceClient, blobs: BlobStore) -> None:
    digest = server.put(DATA)
    before = len(server.requests)
    with pytest.raises(LinkError) as failure:
        await Downloader(client, blobs, DownloadLimits(disk_reserve_bytes=1 << 60)).fetch(digest, len(DATA))
    assert failure.value.reason == "disk_reserve"
    assert len(server.requests) == before


def test_a_late_writer_cannot_spoil_a_blob(blobs: BlobStore) -> None:
    blobs.prepare()
    partial = Partial(blobs.partial("d"), 10)
    partial.write(memoryview(b"0123456789"))
    with blobs.partial("d").open("ab") as late:
        late.write(b"late")
    assert partial.finish() == ""
    partial.close()


def test_two_writers_of_one_partial_file_are_refused(blobs: BlobStore) -> None:
    blobs.prepare()
    partial = Partial(blobs.partial("d"), 10)
    with pytest.raises(BlockingIOError):
        Partial(blobs.partial("d"), 10)
    partial.close()
    with pytest.raises(OSError, match="closed"):
        partial.write(memoryview(b"late"))


class Scripted:
    """A server that answers each request with the next bytes, piece by piece, and remembers what it was asked."""

    def __init__(self, *answers: list[bytes], gap_s: float = 0.0) -> None:
        self._answers, self._gap_s = list(answers), gap_s
        self.asked: list[str] = []
        self.reached = asyncio.Event()
        self.url = ""
        self._busy: list[asyncio.Future[None]] = []

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Scripted"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            async with server:
                yield self
        finally:
            for task in self._busy:
                task.cancel()
            await asyncio.gather(*self._busy, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._busy.append(asyncio.ensure_future(self._answer(reader, writer)))

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        self.reached.set()
        try:
            with contextlib.suppress(ConnectionError):
                for piece in self._answers.pop(0):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(self._gap_s)
        finally:
            writer.close()


def head(status: str, length: int | None, *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *more, *([] if length is None else [f"Content-Length: {length}"])]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def of(scripted: Scripted, http: httpx.AsyncClient, state: StateDir, limits: DownloadLimits = NO_RESERVE) -> Downloader:
    client = DeviceClient(http, scripted.url, load_key(state), "d-7")
    return Downloader(client, BlobStore(state.blobs), limits)


async def test_c35_another_server_with_another_etag_goes_on_where_the_first_one_stopped(
    http: httpx.AsyncClient, state: StateDir, blobs: BlobStore
) -> None:
    first = Scripted([head("200 OK", len(DATA), 'ETag: "one"'), DATA[:4000]])
    there = "Content-Range: bytes 4000-10239/10240"
    second = Scripted([head("206 Partial Content", len(DATA) - 4000, 'ETag: "two"', there), DATA[4000:]])
    async with first.listening(), second.listening():
        with pytest.raises(LinkError, match="before the end"):
            await of(first, http, state).fetch(DIGEST, len(DATA))
        downloader = of(second, http, state)
        assert (await downloader.fetch(DIGEST, len(DATA))).read_bytes() == DATA
    assert "Range: bytes=4000-" in second.asked[0]
    assert downloader.received_bytes == len(DATA) - 4000


async def test_c35_a_file_that_changed_on_the_server_is_found_out_and_fetched_anew(
    http: httpx.AsyncClient, state: StateDir, blobs: BlobStore
) -> None:
    other, there = bytes(len(DATA)), "Content-Range: bytes 4000-10239/10240"
    server = Scripted(
        [head("200 OK", len(DATA), 'ETag: "one"'), other[:4000]],
        [head("206 Partial Content", len(DATA) - 4000, 'ETag: "two"', there), DATA[4000:]],
        [head("200 OK", len(DATA), 'ETag: "two"'), DATA],
    )
    async with server.listening():
        downloader = of(server, http, state)
        reasons = []
        for _ in range(2):
            with pytest.raises(LinkError) as failure:
                await downloader.fetch(DIGEST, len(DATA))
            reasons.append(failure.value.reason)
        assert reasons == ["connection_lost", "wrong_digest"]
        assert not blobs.partial(DIGEST).exists()
        assert (await downloader.fetch(DIGEST, len(DATA))).read_bytes() == DATA


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([head("206 Partial Content", 3000, "Content-Range: bytes 7240-10239/99999"), DATA[7240:]], "wrong_range"),
        ([head("206 Partial Content", 6240), DATA[4000:]], "wrong_range"),
        ([head("206 Partial Content", 9, "Content-Range: bytes 4000-10239/10240"), DATA[4000:]], "wrong_size"),
        ([head("200 OK", 16), b"<html>login</html>"], "wrong_size"),
        ([head("416 Range Not Satisfiable", 0)], "refused_by_server"),
        ([head("500 Oops", 4), b"oops"], "server_error"),
        ([head("302 Found", 0, "Location: file:///etc/passwd")], "bad_answer"),
        ([head("200 OK", 30, "Content-Encoding: gzip"), gzip.compress(bytes(100))], "content_encoding"),
        ([b"garbage\r\n\r\n"], "server_unreachable"),
        ([], "server_unreachable"),
    ],
)
async def test_c36_a_lying_server_costs_nothing_of_what_is_there(
    http: httpx.AsyncClient, state: StateDir, blobs: BlobStore, answer: list[bytes], reason: str
) -> None:
    blobs.partial(DIGEST).write_bytes(DATA[:4000])
    server = Scripted(answer)
    async with server.listening():
        with pytest.raises(LinkError) as failure:
            await of(server, http, state).fetch(DIGEST, len(DATA))
    assert failure.value.reason == reason
    assert blobs.partial(DIGEST).read_bytes() == DATA[:4000]


async def test_c36_a_whole_answer_to_a_range_is_taken_from_where_we_are(
    http: httpx.AsyncClient, state: StateDir, blobs: BlobStore
) -> None:
    blobs.partial(DIGEST).write_bytes(DATA[:4000])
    server = Scripted([head("200 OK", len(DATA)), DATA[:3], DATA[3:4100], DATA[4100:5000]], [head("404 No", 0)])
    async with server.listening():
        with pytest.raises(LinkError, match="before the end"):
            await of(server, http, state).fetch(DIGEST, len(DATA))
    assert blobs.partial(DIGEST).read_bytes() == DATA[:5000]


async def test_a15_a_second_redirect_is_not_followed_and_foreign_hosts_get_no_signature(
    http: httpx.AsyncClient, state: StateDir, blobs: BlobStore
) -> None:
    store = Scripted([head("200 OK", len(DATA)), DATA], [head("307 Again", 0, "Location: /elsewhere")])
    async with store.listening():
        elsewhere = store.url.replace("127.0.0.1", "localhost")
        server = Scripted(*[[head("307 There", 0, f"Location: {elsewhere}/b?sig=1")]] * 2)
        async with server.listening():
            downloader = of(server, http, state)
            assert (await downloader.fetch(DIGEST, len(DATA))).read_bytes() == DATA
            with pytest.raises(LinkError, match="one address to the next"):
                await downloader.fetch("0" * 64, len(DATA))
    assert "Fleetloop-Signature" in server.asked[0]
    assert "Fleetloop" not in store.asked[0]


@pytest.mark.parametrize("slow", ["header", "silence"])
async def test_a14_slow_headers_are_left(http: httpx.AsyncClient, state: StateDir, blobs: BlobStore, slow: str) -> None:
    pieces = (
        [bytes([each]) for each in head("200 OK", len(DATA), "X-Slow: " + "x" * 500)] if slow == "header" else [b""]
    )
    server = Scripted(pieces, gap_s=0.05 if slow == "header" else 5.0)
    limits = DownloadLimits(min_bytes_per_s=100, rate_window_s=0.3, disk_reserve_bytes=0)
    begun_s = time.monotonic()
    async with server.listening():
        with pytest.raises(LinkError) as failure:
            await of(server, http, state, limits).fetch(DIGEST, len(DATA))
    assert failure.value.reason == "too_slow"
    assert time.monotonic() - begun_s < 3


async def test_a_cancelled_download_leaves_no_thread_and_keeps_what_came(
    http: httpx.AsyncClient, state: StateDir, blobs: BlobStore
) -> None:
    server = Scripted([head("200 OK", len(DATA)), DATA[:4000], b""], gap_s=3.0)
    async with server.listening():
        work = asyncio.ensure_future(of(server, http, state).fetch(DIGEST, len(DATA)))
        await server.reached.wait()
        await asyncio.sleep(0.2)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert "sha256" not in {each.name for each in threading.enumerate()}
    # Nobody holds it: another attempt may write.
    Partial(blobs.partial(DIGEST), len(DATA)).close()


async def test_c37_a_bundle_that_does_not_fit_is_refused_before_anything_is_written(
    downloader: Downloader, blobs: BlobStore
) -> None:
    free = os.statvfs(blobs.root)
    half = free.f_bavail * free.f_frsize * 6 // 10
    downloader.check_room({"a": half})
    with pytest.raises(LinkError, match="reserve"):
        downloader.check_room({"a": half, "b": half})
    with pytest.raises(LinkError, match="reserve"):
        await downloader.fetch("b" * 64, 2 * half)
    assert list(blobs.root.glob("partial/*")) == []


def test_c37_holes_in_a_partial_file_do_not_count_as_there(blobs: BlobStore) -> None:
    with blobs.partial("a").open("wb") as sparse:
        sparse.truncate(64 << 20)
    assert blobs.missing_bytes("a", 64 << 20) == 64 << 20


def test_c37_a_disk_without_inodes_is_full(downloader: Downloader, monkeypatch: pytest.MonkeyPatch) -> None:
    few = list(os.statvfs("/"))
    few[5:8] = [1_000_000, 12, 12]
    monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result(few))
    with pytest.raises(LinkError) as failure:
        downloader.check_room({"a": 1})
    assert failure.value.reason == "disk_inodes"


@pytest.fixture
def quota() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_c37_a_quota_in_the_middle_is_a_disk_error_and_the_rest_comes_later(
    server: FleetServer, downloader: Downloader, blobs: BlobStore, request: pytest.FixtureRequest
) -> None:
    data = os.urandom(3 << 20)
    digest = server.put(data)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    request.getfixturevalue("quota")
    with pytest.raises(LinkError) as failure:
        await downloader.fetch(digest, len(data))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert failure.value.reason == "disk_error"
    assert blobs.partial(digest).stat().st_size == 1 << 20
    assert (await downloader.fetch(digest, len(data))).read_bytes() == data


def test_c40_a_seal_breaks_with_every_write_and_with_every_other_file(blobs: BlobStore) -> None:
    blobs.partial(DIGEST).write_bytes(DATA)
    path = blobs.keep(DIGEST)
    seals, times = blobs.seals, path.stat()
    assert seals.unbroken(path, DIGEST) is True
    path.chmod(0o644)
    path.write_bytes(DATA[::-1])
    path.chmod(0o444)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (seals.unbroken(path, DIGEST), seals.holds(path, DIGEST)) == (False, False)
    path.unlink()
    path.write_bytes(DATA)
    assert seals.unbroken(path, DIGEST) is None or seals.unbroken(path, DIGEST) is False
    assert seals.holds(path, DIGEST)
    path.unlink()
    (blobs.root / "elsewhere").write_bytes(DATA)
    path.symlink_to(blobs.root / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        seals.holds(path, DIGEST)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_words: object) -> None:
        """Say nothing."""


def test_a_large_model_takes_little_memory(tmp_path: Path) -> None:
    size, digest = 256 << 20, sha256()
    for _ in range(256):
        digest.update(bytes(1 << 20))
    path = tmp_path / "device/v1/blobs/sha256" / digest.hexdigest()
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(size)
    described = {"path": "m.onnx", "size_bytes": size, "sha256": path.name, "media_type": "x", "role": "model"}
    content = {"schema": "fleetloop.content/v1", "model": "large", "files": [described]}
    said = {"schema": "fleetloop.release/v1", "model": "large", "version": 1, "counter": 1, "content": content}
    (tmp_path / "r").write_bytes(
        canonical_json({**said, "device_classes": ["x"], "content_digest": digest_of(content)})
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: _Quiet(*args, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        command = [sys.executable, "-m", "tests.bench.one_update", url, str(tmp_path / "d"), str(tmp_path / "r")]
        done = subprocess.run([*command, path.name, str(size)], check=True, stdout=subprocess.PIPE, timeout=60)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    took = json.loads(done.stdout.splitlines()[-1])
    assert took["peak_mb"] - took["idle_mb"] < 64
