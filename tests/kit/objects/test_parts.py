"""Objects that arrive in parts, on both adapters: what is there stays there, and nothing counts before all of it is."""

import hashlib
from pathlib import Path

import pytest

from control_plane.kit.objects import CorruptObjectError, Layout, LocalStore, ObjectMissingError, Stored
from tests.kit.objects.conftest import Bench, local_bench

DATA = bytes(range(256)) * (12 * 4096) + b"the end"
PART = 5 << 20  # the least that S3 takes
LAYOUT = Layout(len(DATA), PART)
SHA = hashlib.sha256(DATA).hexdigest()


def part(number: int) -> bytes:
    return DATA[LAYOUT.start_of(number) :][: LAYOUT.size_of(number)]


async def send(bench: Bench, sha256: str, *numbers: int) -> None:
    urls = await bench.store.part_urls(sha256, LAYOUT, numbers, 60)
    for number, url in zip(numbers, urls, strict=True):
        assert await bench.put(url, part(number)) == 200


def test_a_layout_cuts_without_a_rest() -> None:
    assert (LAYOUT.count, LAYOUT.size_of(1), LAYOUT.size_of(3)) == (3, PART, len(DATA) - 2 * PART)
    assert b"".join(part(number) for number in (1, 2, 3)) == DATA
    assert Layout(2 * PART, PART).count == 2


async def test_parts_are_kept_and_joined_once_all_are_there(bench: Bench) -> None:
    assert await bench.store.parts(SHA, LAYOUT) == set()
    await send(bench, SHA, 3, 1)
    assert await bench.store.parts(SHA, LAYOUT) == {1, 3}
    with pytest.raises(ObjectMissingError):
        await bench.store.join(SHA, LAYOUT)
    assert not await bench.store.exists(SHA)
    await send(bench, SHA, 2)
    assert await bench.store.join(SHA, LAYOUT) == Stored(SHA, len(DATA))
    assert await bench.store.read(SHA) == DATA
    assert await bench.store.parts(SHA, LAYOUT) == set()


async def test_parts_of_something_else_are_dropped(bench: Bench) -> None:
    other = "1" * 64
    await send(bench, other, 1, 2, 3)
    with pytest.raises(CorruptObjectError):
        await bench.store.join(other, LAYOUT)
    assert not await bench.store.exists(other)
    assert await bench.store.parts(other, LAYOUT) == set()


async def test_a_part_that_is_cut_short_is_not_there(tmp_path: Path) -> None:
    bench = local_bench(tmp_path)
    await bench.store.start()
    [url] = await bench.store.part_urls(SHA, LAYOUT, [1], 60)
    assert await bench.put(url, part(1)[:-1]) == 403  # another size than the URL's
    assert await bench.put(url.replace("part.5242880.1", "part.5242880.2"), part(2)) == 403
    assert await bench.store.parts(SHA, LAYOUT) == set()
    assert isinstance(bench.store, LocalStore)


async def test_parts_of_another_cut_do_not_count(bench: Bench) -> None:
    await send(bench, SHA, 1, 2)
    assert await bench.store.parts(SHA, Layout(len(DATA), PART + 1)) == set()
