"""What makes pages live: PostgreSQL says what changed (channel `fleetloop_page`), every open page here hears.

A topic is a part of the loop (`rollout`, `review`, `run`, `evaluation`, `model`, `audit`). What changes all the time,
devices and their telemetry, is no topic of a notification: the beat that keeps a connection open stands for it,
as `field`.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator

CHANNEL = "fleetloop_page"
FIELD = "field"
BEAT_S = 5.0
GAP_S = 1.0
"""Between two words to one page at least: many changes make one."""
SPREAD_S = 1.0
"""Pages are told of a change within this time, each at a moment of its own: they would all come back at once."""
LIFE_S = 300.0
"""Then a page connects again, and is asked again who it is."""
MOST_OPEN = 500
_CHANCE = random.SystemRandom()


class Watcher:
    """One open page: the topics that it has not been told of."""

    def __init__(self) -> None:
        self.topics: set[str] = set()
        self.due = asyncio.Event()

    def hear(self, topic: str) -> None:
        self.topics.add(topic)
        self.due.set()

    async def changed(self, seconds: float) -> list[str]:
        """Return what changed, as soon as something did; nothing after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self.due.wait()
        except TimeoutError:
            return []
        self.due.clear()
        topics, self.topics = sorted(self.topics), set()
        return topics


class Pulse:
    """The open pages of one process."""

    def __init__(self) -> None:
        self._open: set[Watcher] = set()
        self.closing = False

    @property
    def is_full(self) -> bool:
        return len(self._open) >= MOST_OPEN

    def hear(self, topic: str) -> None:
        for watcher in self._open:
            watcher.hear(topic)

    def close(self) -> None:
        """End every stream, so that a server that stops does not wait for its pages."""
        self.closing = True
        self.hear("")

    async def stream(self) -> AsyncIterator[bytes]:
        """Give server-sent events: `changed` with topics, or `beat`."""
        watcher = Watcher()
        self._open.add(watcher)
        ends_at_s, beat_at_s = time.monotonic() + LIFE_S, time.monotonic() + BEAT_S * _CHANCE.uniform(0.5, 1)
        try:
            yield b"retry: 2000\nevent: beat\ndata: \n\n"
            while not self.closing and time.monotonic() < ends_at_s:
                topics = await watcher.changed(max(beat_at_s - time.monotonic(), 0.05))
                if time.monotonic() >= beat_at_s:
                    topics, beat_at_s = [*topics, FIELD], time.monotonic() + BEAT_S
                if topics:
                    await asyncio.sleep(0 if self.closing else _CHANCE.uniform(0, SPREAD_S))
                    yield f"event: changed\ndata: {' '.join(topics)}\n\n".encode()
                await asyncio.sleep(0 if self.closing else GAP_S)
        finally:
            self._open.discard(watcher)
