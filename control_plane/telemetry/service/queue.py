"""Batches on their way to the database: those that come while one transaction runs go together into the next."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from agents.protocol import v1 as wire
from control_plane.fleet.domain import Identity
from control_plane.fleet.service.identities import must_stand
from control_plane.kit.db import Database, Row, is_outage
from control_plane.kit.errors import Problem, Unavailable
from control_plane.telemetry.domain import SHORTEST_S, look_s, paced
from control_plane.telemetry.service.intake import Batch, take
from control_plane.telemetry.store import intake as store

GROUP_ITEMS = 5_000
WAITING_ITEMS = 50_000
WRITERS = 2
"""While one transaction waits for the disk, another one copies."""


Answer = wire.TelemetryReply | BaseException
Tell = Callable[[Answer], None]


class Waiting:
    """A batch and whoever waits for its answer, which is told once."""

    def __init__(self, batch: Batch, tell: Tell) -> None:
        self.batch = batch
        self._tell: Tell | None = tell

    def tell(self, answer: Answer) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            tell(answer)


class Pace:
    """How often devices are to send, by how many of them do."""

    def __init__(self) -> None:
        self.seconds = SHORTEST_S
        self._since_s, self._requests = time.monotonic(), 0

    def count(self) -> None:
        self._requests += 1
        passed_s = time.monotonic() - self._since_s
        if passed_s >= look_s(self.seconds):
            self.seconds = round(paced(self.seconds, self._requests / passed_s), 1)
            self._since_s, self._requests = time.monotonic(), 0


class Intake:
    """The queue of one process."""

    def __init__(self, database: Database, cell_s: int) -> None:
        self._database, self._cell_s = database, cell_s
        self._waiting: deque[Waiting] = deque()
        self._items = 0
        self._pace = Pace()
        self._writers: set[asyncio.Task[None]] = set()

    async def take(self, batch: Batch) -> wire.TelemetryReply:
        """Return once the batch is durable.

        Raises:
            Unavailable: too much waits already. Problem: the device is not heard any more, says its row.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.put(batch, lambda told: None if answer.done() else answer.set_result(told))
        told = await answer
        if isinstance(told, BaseException):
            raise told
        return told

    def put(self, batch: Batch, tell: Tell) -> None:
        """Line a batch up; `tell` hears once that it is durable, or why it is not.

        Raises:
            Unavailable: too much waits already.
        """
        self._pace.count()
        if self._items > WAITING_ITEMS:
            raise Unavailable("more telemetry waits than can be written; send it again later", code="busy")
        self._waiting.append(Waiting(batch, tell))
        self._items += batch.items
        if len(self._writers) < WRITERS:
            writer = asyncio.create_task(self._write_all())
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)

    async def _write_all(self) -> None:
        while self._waiting:
            group = self._next_group()
            try:
                await self._write(group)
            finally:  # also when this process ends: nobody may wait for ever
                for waiting in group:
                    waiting.tell(Unavailable("the server stops; send it again"))

    def _next_group(self) -> list[Waiting]:
        group, items = list[Waiting](), 0
        while self._waiting and (not group or items + self._waiting[0].batch.items <= GROUP_ITEMS):
            group.append(self._waiting.popleft())
            items += group[-1].batch.items
        self._items -= items
        return group

    async def _write(self, group: Sequence[Waiting]) -> None:
        """Write a group; if something is wrong with one of it, each is judged alone and hears what it was."""
        try:
            await self._commit(group)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait hear it
            if len(group) == 1 or is_outage(error):
                for waiting in group:
                    waiting.tell(error)
                return
            for waiting in group:
                await self._write([waiting])

    async def _commit(self, group: Sequence[Waiting]) -> None:
        async with self._database.transaction() as session:
            replies = await take(session, [waiting.batch for waiting in group], self._cell_s, self._pace.seconds)
            unheard = [waiting for waiting, reply in zip(group, replies, strict=True) if reply is None]
            rows = await store.standing(session, [waiting.batch.who.id for waiting in unheard]) if unheard else {}
        for waiting, reply in zip(group, replies, strict=True):
            waiting.tell(reply or _why(waiting.batch.who, rows.get(waiting.batch.who.id)))

    async def close(self) -> None:
        """Let what waits be written."""
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._writers, return_exceptions=True)


def _why(who: Identity, row: Row | None) -> Problem:
    """Say why a device's batch was not taken."""
    try:
        must_stand(who, row)
    except Problem as problem:
        return problem
    return Unavailable("the device was let in again just now; send it again")
