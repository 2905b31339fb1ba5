"""People at live pages, in a process of their own: what measures devices beside them must not share a lock with them.

`python -m tests.support.live_people URL PEOPLE SECONDS PATH...` reads a token from stdin. Each person signs in, keeps
a page open as the browser does (the stream of changes, and the page again when it names a topic of that page), and goes
on to the next page every few seconds. It prints "in" once everybody has a page, and at the end what it took as JSON:
`taken_s` of every page, what was `bad`, and the `cpu_s` of all this. Sockets are plain: real people's browsers run on
machines of their own, and what plays them here should cost the one machine as little as it can.
"""

import asyncio
import contextlib
import itertools
import json
import re
import resource
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from urllib.parse import urlencode, urlsplit

TOPICS = re.compile(rb'data-topics="([^"]*)"')
STAY_S = 3.0
"""How long a person looks at one page before going on to the next."""
PATIENCE_S = 20.0


@dataclass
class Seen:
    """What the people saw: seconds of every page they were given, and every page they were not given."""

    taken_s: list[float] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    cpu_s: float = 0.0


@dataclass
class Person:
    """Somebody who keeps a page open, and goes from page to page."""

    url: str
    paths: Iterator[str]
    seen: Seen
    cookie: str = ""
    path: str = ""
    topics: set[bytes] = field(default_factory=set)

    async def sign_in(self, token: str) -> None:
        head, _ = await self._ask("POST", "/login", urlencode({"token": token}))
        self.cookie = re.search(r"(?i)set-cookie: ([^;]+)", head)[1]  # type: ignore[index] # else it is said with its head
        await self._look()

    async def work(self, until_s: float) -> None:
        while time.monotonic() < until_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STAY_S):
                    await self._stay()
            await self._look()

    async def _stay(self) -> None:
        async for changed in self._stream():
            if b"any" in self.topics or self.topics & changed:
                await self._look(again=True)

    async def _look(self, *, again: bool = False) -> None:
        """Get a page; keep the topics that make it due again."""
        self.path = self.path if again else next(self.paths)
        begun = time.perf_counter()
        head, body = await self._ask("GET", self.path)
        self.seen.taken_s.append(time.perf_counter() - begun)
        if " 200 " not in head[:16]:
            self.seen.bad.append(f"{self.path}: {head[:40]}")
        found = TOPICS.search(body)
        self.topics = set(found[1].split()) if found else set()

    async def _stream(self) -> AsyncIterator[set[bytes]]:
        async with self._open("GET", "/live") as (reader, _):
            while line := await reader.readline():
                if line.startswith(b"data: "):
                    yield set(line[6:].split())

    async def _ask(self, method: str, path: str, form: str = "") -> tuple[str, bytes]:
        async with asyncio.timeout(PATIENCE_S), self._open(method, path, form) as (reader, _):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            return head.decode(), body

    @contextlib.asynccontextmanager
    async def _open(
        self, method: str, path: str, form: str = ""
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        where = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        said = f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n" if form else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: {where.netloc}\r\nCookie: {self.cookie}\r\nConnection: close\r\n"
        try:
            writer.write(f"{head}HX-Request: true\r\n{said}\r\n{form}".encode())
            yield reader, writer
        finally:
            writer.close()


async def watch(url: str, token: str, people: int, seconds: float, paths: list[str]) -> Seen:
    seen, turns = Seen(), [number % len(paths) for number in range(people)]
    everybody = [Person(url, itertools.cycle([*paths[turn:], *paths[:turn]]), seen) for turn in turns]
    for person in everybody:
        await person.sign_in(token)
    print("in", flush=True)
    before, until_s = resource.getrusage(resource.RUSAGE_SELF), time.monotonic() + seconds
    await asyncio.gather(*(_come(person, STAY_S * place / people, until_s) for place, person in enumerate(everybody)))
    after = resource.getrusage(resource.RUSAGE_SELF)
    seen.cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seen


async def _come(person: Person, after_s: float, until_s: float) -> None:
    """Begin a little later than the one before: people do not click at one instant."""
    await asyncio.sleep(after_s)
    await person.work(until_s)


if __name__ == "__main__":
    url_, people_, seconds_, *paths_ = sys.argv[1:]
    found_ = asyncio.run(watch(url_, sys.stdin.readline().strip(), int(people_), float(seconds_), paths_))
    print(json.dumps(asdict(found_)))
