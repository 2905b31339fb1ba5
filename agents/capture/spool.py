"""Telemetry to the server: batches from the spool, forgotten only when the server says they are durable there."""

import asyncio
import time
from typing import Final

import httpx
from pydantic import ValidationError

from agents.capture.heat import HeatLog
from agents.link import Backoff, DeviceClient, LinkError
from agents.protocol.v1 import ExposureWindow, FieldEvent, TelemetryBatch, TelemetryReply
from agents.sdk.spool import EVENT, WINDOW, Item, Spool

_BATCH_ITEMS: Final = 500
_HEAT: Final = frozenset({"temperature_max_c", "throttled_s"})
_IDLE_S: Final = 2.0
"""How often to look whether an event waits, however long the server lets a device gather windows."""
_TIDY_S: Final = 600.0


class TelemetrySender:
    """`behind`: more waits than one batch; recordings let it go first. `heat` is added to windows on their way."""

    def __init__(self, client: DeviceClient, spool: Spool, heat: HeatLog | None = None) -> None:
        self._client, self._spool, self._heat = client, spool, heat or HeatLog()
        self._backoff = Backoff(1.0, 300.0)
        self._period_s = _IDLE_S
        self._batch_items = _BATCH_ITEMS
        self._tidied_at_s = self._due_at_s = float("-inf")
        self.last_error: str | None = None
        self.behind = False

    async def look(self) -> float:
        """Send if it is time to, or at once if an event waits; return the seconds until the next look."""
        left_s = self._due_at_s - time.monotonic()
        if left_s > 0 and (self.last_error or not await asyncio.to_thread(self._spool.holds, EVENT)):
            return min(left_s, _IDLE_S)
        wait_s = await self.send_once()
        self._due_at_s = time.monotonic() + wait_s
        return min(wait_s, _IDLE_S)

    async def send_once(self) -> float:
        """Send one batch if there is one; return the seconds until the next look."""
        if time.monotonic() - self._tidied_at_s > _TIDY_S:
            await asyncio.to_thread(self._spool.tidy)
            self._tidied_at_s = time.monotonic()
        items = await asyncio.to_thread(self._spool.take, self._batch_items)
        self.behind = len(items) >= self._batch_items
        if not items:
            return self._backoff.spread(self._period_s)
        try:
            happened = any(item.kind == EVENT for item in items)
            reply = await self._client.post("telemetry", self._encoded(items), TelemetryReply, traced=happened)
        except LinkError as error:
            return await self._failed(error, items)
        return await self._answered(reply, items)

    async def _answered(self, reply: TelemetryReply, items: list[Item]) -> float:
        self._period_s = reply.next_batch_s
        if reply.acknowledged_seq < items[0].seq:
            self.last_error = "the server acknowledged nothing"
            return self._backoff.failed()
        await asyncio.to_thread(self._spool.ack, min(reply.acknowledged_seq, items[-1].seq))
        self._backoff.succeeded()
        self.last_error, self._batch_items = None, min(_BATCH_ITEMS, self._batch_items * 2)
        return self._backoff.spread(reply.next_batch_s)

    async def _failed(self, error: LinkError, items: list[Item]) -> float:
        self.last_error = str(error)
        if isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout):
            # It never left: the server cannot have it, and it may be merged while the server is away.
            await asyncio.to_thread(self._spool.take_back)
        if not error.refused:
            return self._backoff.failed(error.retry_after_s)
        # One bad item must not hold up all that come after it: halve until it is alone, then give it up.
        self._batch_items = max(1, len(items) // 2)
        if len(items) == 1:
            await asyncio.to_thread(self._spool.reject, items[0].seq, f"{error.reason}: {error}")
        return self._backoff.spread(self._period_s)

    def _encoded(self, items: list[Item]) -> bytes:
        try:
            windows = tuple(ExposureWindow.model_validate({"seq": i.seq, **i.body}) for i in items if i.kind == WINDOW)
            events = tuple(FieldEvent.model_validate({"seq": i.seq, **i.body}) for i in items if i.kind == EVENT)
        except ValidationError as error:
            # Written by another version of the sdk: to be found and given up like what the server refuses.
            raise LinkError("invalid_item", str(error)[:300], status=422) from error
        felt = tuple(self._heat.added_to(window) for window in windows)
        batch = TelemetryBatch(stream_id=self._spool.stream_id, windows=felt, events=events)
        # What is not known is left out, as agents of the first release did: servers read that quickest.
        unsaid = {i: {name for name in _HEAT if getattr(window, name) is None} for i, window in enumerate(felt)}
        return batch.model_dump_json(exclude={"windows": unsaid}).encode()
