"""Both adapters do the same."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from control_plane.kit.objects import (
    CorruptObjectError,
    InvalidDigestError,
    InvalidNameError,
    ObjectMissingError,
    ObjectTooLargeError,
    Stored,
    s3,
)
from tests.kit.objects.conftest import Bench

HELLO = b"hello, object"
BIG = bytes(range(256)) * (20 * 4096)  # 20 MiB: more than one part
BAD_DIGESTS = ["", "abc", "A" * 64, "g" * 64, "../" * 21 + "a", "a" * 65, "a" * 63 + "\n", "0" * 63 + "/"]
BAD_NAMES = ["", "/a", "a/", "a//b", "../a", "a/../b", "a/.b", "A", "a b", "a\n", "x" * 201]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def read_into(got: list[bytes], chunks: AsyncIterator[bytes]) -> None:
    async for chunk in chunks:
        got.append(chunk)  # noqa: PERF401 - what came before the error is looked at


async def everything(bench: Bench, sha256: str, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in bench.store.open(sha256, start, stop)])


async def test_what_was_put_can_be_read(bench: Bench) -> None:
    stored = await bench.store.put_bytes(HELLO)
    assert stored == Stored(sha(HELLO), len(HELLO))
    assert await bench.store.put_bytes(HELLO, stored.sha256) == stored
    assert await bench.store.read(stored.sha256) == HELLO
    assert await bench.store.stat(stored.sha256) == stored
    assert await bench.store.exists(stored.sha256)


async def test_an_empty_object_is_an_object(bench: Bench) -> None:
    stored = await bench.store.put_bytes(b"")
    assert await bench.store.read(stored.sha256) == b""
    assert await everything(bench, stored.sha256, 0, 5) == b""
    assert await bench.store.stat(stored.sha256) == Stored(sha(b""), 0)


async def test_bytes_with_another_digest_are_refused(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(HELLO)
    wrong = sha(b"something else")
    with pytest.raises(CorruptObjectError, match="not"):
        await bench.store.put_bytes(HELLO, wrong)
    with pytest.raises(CorruptObjectError):
        await bench.store.put_file(path, wrong)
    with pytest.raises(CorruptObjectError):
        await bench.store.put_file(stream(HELLO), wrong)
    assert not await bench.store.exists(wrong)
    assert not await bench.store.exists(sha(HELLO))


async def test_files_and_streams_of_several_parts(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(BIG)
    stored = await bench.store.put_file(path)
    assert stored == Stored(sha(BIG), len(BIG))
    assert await everything(bench, stored.sha256) == BIG
    other = BIG + b"!"
    half = len(other) // 2
    streamed = await bench.store.put_file(stream(other[:half], b"", other[half:]), sha(other))
    assert await bench.store.read(streamed.sha256) == other


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 5), (3, 8), (7, None), (0, 10_000), (5, 5), (8, 2), (500, None), (12, 13)]
)
async def test_ranges_are_slices(bench: Bench, start: int, stop: int | None) -> None:
    stored = await bench.store.put_bytes(HELLO)
    assert await everything(bench, stored.sha256, start, stop) == HELLO[start:stop]


async def test_a_range_over_chunks(bench: Bench) -> None:
    stored = await bench.store.put_bytes(BIG)
    assert await everything(bench, stored.sha256, 1_048_570, 3_145_733) == BIG[1_048_570:3_145_733]


async def test_what_is_not_there(bench: Bench) -> None:
    absent = sha(b"absent")
    assert await bench.store.stat(absent) is None
    assert not await bench.store.exists(absent)
    with pytest.raises(ObjectMissingError):
        await bench.store.read(absent)
    with pytest.raises(ObjectMissingError):
        await everything(bench, absent, 3, 5)
    with pytest.raises(ObjectMissingError):
        await bench.store.accept(absent, 3)
    assert await bench.store.read_name("absent/name") is None
    await bench.store.delete(absent)


async def test_what_is_deleted_is_gone_and_can_come_back(bench: Bench) -> None:
    stored = await bench.store.put_bytes(HELLO)
    await bench.store.delete(stored.sha256)
    await bench.store.delete(stored.sha256)
    assert not await bench.store.exists(stored.sha256)
    await bench.store.put_bytes(HELLO)
    assert await bench.store.read(stored.sha256) == HELLO


@pytest.mark.parametrize("bad", BAD_DIGESTS)
async def test_only_a_digest_is_a_digest(bench: Bench, bad: str) -> None:
    calls = [
        bench.store.put_bytes(HELLO, bad) if bad else bench.store.read(bad),
        bench.store.put_file(stream(HELLO), bad) if bad else bench.store.read(bad),
        bench.store.read(bad),
        everything(bench, bad, 1, 2),
        bench.store.stat(bad),
        bench.store.exists(bad),
        bench.store.delete(bad),
        bench.store.accept(bad, 1),
        bench.store.upload_url(bad, 1, 60),
        bench.store.download_url(bad, 60),
    ]
    for call in calls:
        with pytest.raises(InvalidDigestError):
            await call


async def test_sizes_are_bounded(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(HELLO)
    with pytest.raises(ObjectTooLargeError):
        await bench.store.put_file(path, max_size=5)
    with pytest.raises(ObjectTooLargeError):
        await bench.store.put_file(stream(HELLO), max_size=5)
    with pytest.raises(ObjectTooLargeError):
        await bench.store.upload_url(sha(HELLO), 6 * 1024**3, 60)
    assert not await bench.store.exists(sha(HELLO))
    stored = await bench.store.put_file(path, max_size=len(HELLO))
    with pytest.raises(ObjectTooLargeError):
        await bench.store.read(stored.sha256, max_size=5)


async def test_a_stream_that_breaks_leaves_nothing(bench: Bench, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield HELLO
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await bench.store.put_file(broken())
    assert [found async for found in bench.store.list_objects()] == []
    assert not list((tmp_path / "tmp").glob("*"))


async def test_a_damaged_object_is_never_read_to_its_end(bench: Bench) -> None:
    stored = await bench.store.put_bytes(BIG)
    damaged = BIG[:-1] + b"\x01"
    await bench.damage(stored.sha256, damaged)
    got: list[bytes] = []
    with pytest.raises(CorruptObjectError, match="damaged"):
        await read_into(got, bench.store.open(stored.sha256))
    assert 0 < sum(map(len, got)) < len(BIG)
    with pytest.raises(CorruptObjectError):
        await bench.store.read(stored.sha256)


async def test_a_damaged_object_of_another_size_heals_by_being_put_again(bench: Bench) -> None:
    stored = await bench.store.put_bytes(HELLO)
    await bench.damage(stored.sha256, HELLO[:4])
    await bench.store.put_bytes(HELLO)
    assert await bench.store.read(stored.sha256) == HELLO


async def test_a_reader_may_stop_early(bench: Bench) -> None:
    stored = await bench.store.put_bytes(BIG)
    async with aclosing(bench.store.open(stored.sha256)) as chunks:
        assert (await anext(chunks))[:4] == BIG[:4]
    assert await bench.store.read(stored.sha256) == BIG


async def test_the_first_to_publish_a_name_wins(bench: Bench) -> None:
    assert await bench.store.publish("datasets/a.json", b"first")
    assert not await bench.store.publish("datasets/a.json", b"second")
    assert await bench.store.read_name("datasets/a.json") == b"first"


async def test_of_sixteen_racing_writers_one_wins(bench: Bench) -> None:
    won = await asyncio.gather(*(bench.store.publish("race", f"writer {i}".encode()) for i in range(16)))
    assert won.count(True) == 1
    assert await bench.store.read_name("race") == f"writer {won.index(True)}".encode()


async def test_a_name_and_a_name_below_it_are_two_names(bench: Bench) -> None:
    assert await bench.store.publish("p", b"1")
    assert await bench.store.publish("p/q", b"2")
    assert (await bench.store.read_name("p"), await bench.store.read_name("p/q")) == (b"1", b"2")


@pytest.mark.parametrize("bad", BAD_NAMES)
async def test_only_a_name_is_a_name(bench: Bench, bad: str) -> None:
    with pytest.raises(InvalidNameError):
        await bench.store.publish(bad, b"")
    with pytest.raises(InvalidNameError):
        await bench.store.read_name(bad)


async def test_names_and_objects_can_be_listed(bench: Bench) -> None:
    for name in ("b/2", "a/1", "b/1"):
        await bench.store.publish(name, b"")
    stored = [await bench.store.put_bytes(bytes([i])) for i in range(5)]
    assert [name async for name in bench.store.list_names()] == ["a/1", "b/1", "b/2"]
    assert [name async for name in bench.store.list_names("b/")] == ["b/1", "b/2"]
    listed = [found async for found in bench.store.list_objects()]
    assert [Stored(found.sha256, found.size) for found in listed] == sorted(stored, key=lambda found: found.sha256)
    assert all(abs(found.modified_at - datetime.now(UTC)) < timedelta(minutes=1) for found in listed)


async def test_an_object_is_set_aside_brought_back_and_forgotten(bench: Bench) -> None:
    stored = await bench.store.put_bytes(HELLO)
    await bench.store.set_aside(stored.sha256)
    await bench.store.set_aside(stored.sha256)
    assert (await bench.store.stat(stored.sha256), [e async for e in bench.store.list_objects()]) == (None, [])
    assert [found.sha256 async for found in bench.store.list_aside()] == [stored.sha256]
    await bench.store.bring_back(stored.sha256)
    await bench.store.bring_back(stored.sha256)
    assert await bench.store.read(stored.sha256) == HELLO
    await bench.store.set_aside(stored.sha256)
    await bench.store.forget(stored.sha256)
    await bench.store.forget(stored.sha256)
    assert [found async for found in bench.store.list_aside()] == []
    await bench.store.put_bytes(HELLO)
    assert await bench.store.read(stored.sha256) == HELLO


async def test_what_is_put_again_is_new_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep takes what is old: whoever puts bytes that were there must not lose them to it."""
    stored = await bench.store.put_bytes(HELLO)
    [before] = [found async for found in bench.store.list_objects()]
    await asyncio.sleep(1.1)
    monkeypatch.setattr(s3, "NEW", timedelta(0))
    for again in (bench.store.put_bytes(HELLO), bench.store.accept(stored.sha256, len(HELLO))):
        assert await again == stored
        [after] = [found async for found in bench.store.list_objects()]
        assert after.modified_at > before.modified_at
        before = after
        await asyncio.sleep(1.1)


async def test_upload_and_download_by_url(bench: Bench) -> None:
    url = await bench.store.upload_url(sha(HELLO), len(HELLO), 60)
    assert await bench.put(url, HELLO) == 200
    for _ in range(2):
        assert await bench.store.accept(sha(HELLO), len(HELLO)) == Stored(sha(HELLO), len(HELLO))
    assert await bench.store.read(sha(HELLO)) == HELLO
    assert await bench.get(await bench.store.download_url(sha(HELLO), 60)) == (200, HELLO)
    with pytest.raises(CorruptObjectError):
        await bench.store.accept(sha(HELLO), len(HELLO) + 1)


async def test_other_bytes_put_to_an_upload_url_never_become_the_object(bench: Bench) -> None:
    url = await bench.store.upload_url(sha(HELLO), len(HELLO), 60)
    await bench.put(url, HELLO[::-1])
    assert not await bench.store.exists(sha(HELLO))
    with pytest.raises((CorruptObjectError, ObjectMissingError)):
        await bench.store.accept(sha(HELLO), len(HELLO))
    assert not await bench.store.exists(sha(HELLO))


async def test_an_upload_url_is_for_one_size(bench: Bench) -> None:
    signed_or_skip(bench)
    url = await bench.store.upload_url(sha(HELLO), len(HELLO), 60)
    assert await bench.put(url, HELLO + b"!") == 403


async def test_an_altered_url_opens_nothing(bench: Bench) -> None:
    signed_or_skip(bench)
    stored, other = await bench.store.put_bytes(HELLO), await bench.store.put_bytes(b"other")
    url = await bench.store.download_url(stored.sha256, 60)
    for bad in (url.replace(stored.sha256, other.sha256), url[:-1] + ("0" if url[-1] != "0" else "1")):
        assert (await bench.get(bad))[0] == 403
    assert await bench.put(url.replace("/get/", "/put/"), HELLO) == 403


async def test_an_expired_url_opens_nothing(bench: Bench) -> None:
    signed_or_skip(bench)
    stored = await bench.store.put_bytes(HELLO)
    url = await bench.store.download_url(stored.sha256, 1)
    assert (await bench.get(url))[0] == 200
    await bench.later()
    assert (await bench.get(url))[0] == 403


def signed_or_skip(bench: Bench) -> None:
    if not bench.checks_signatures:
        pytest.skip("this S3 server never checks signatures (moto); install ceph to run it")
