"""Open pages hear what changed: soon, once for many changes, and no longer than they may."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from control_plane.web import pulse
from control_plane.web.pulse import Pulse


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "GAP_S", 0.05)
    monkeypatch.setattr(pulse, "SPREAD_S", 0.0)
    monkeypatch.setattr(pulse, "BEAT_S", 0.3)


async def told(stream: AsyncIterator[bytes]) -> str:
    async with asyncio.timeout(2):
        return (await anext(stream)).decode()


async def test_many_changes_make_one_word() -> None:
    heart = Pulse()
    stream = heart.stream()
    assert "event: beat" in await told(stream)
    for topic in ("rollout", "review", "rollout"):
        heart.hear(topic)
    assert await told(stream) == "event: changed\ndata: review rollout\n\n"
    heart.hear("run")
    heart.hear("audit")
    assert await told(stream) == "event: changed\ndata: audit run\n\n"


async def test_without_changes_there_is_a_beat() -> None:
    stream = Pulse().stream()
    await told(stream)
    assert await told(stream) == "event: changed\ndata: field\n\n"


async def test_changes_do_not_keep_the_beat_away() -> None:
    heart = Pulse()
    stream = heart.stream()
    await told(stream)
    words = ""
    for _ in range(20):
        heart.hear("run")
        words += await told(stream)
    assert "run field" in words


async def test_a_stream_ends_when_the_server_stops_and_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    heart = Pulse()
    streams = [heart.stream(), heart.stream()]
    for stream in streams:
        await told(stream)
    heart.close()
    for stream in streams:
        async with asyncio.timeout(2):
            assert [word async for word in stream][1:] == []
    monkeypatch.setattr(pulse, "LIFE_S", 0.1)
    async with asyncio.timeout(3):
        assert len([word async for word in Pulse().stream()]) <= 3


async def test_only_so_many_pages_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "MOST_OPEN", 1)
    heart = Pulse()
    assert not heart.is_full
    stream = heart.stream()
    await told(stream)
    assert heart.is_full
    await stream.aclose()  # type: ignore[attr-defined] # an async generator
    assert not heart.is_full
