"""Take telemetry in exactly once: many batches in one transaction."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from agents.protocol import v1 as wire
from control_plane.fleet.domain import Identity
from control_plane.kit import clock, outbox, tracing
from control_plane.kit.db import Session
from control_plane.kit.errors import Invalid, Refused
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Edge, Kind, Node
from control_plane.telemetry.domain import (
    SHORTEST_S,
    Place,
    Tally,
    add_to,
    by_content,
    first_to_wait,
    fresh,
    in_panel,
    out_of_order,
    out_of_time,
    tally,
)
from control_plane.telemetry.store import intake as store
from control_plane.telemetry.store import sums
from control_plane.telemetry.store.binary import Sender, Window, packed

TRACED = "telemetry.traced"
"""Outbox topic: events of a batch that belongs to a trace were stored."""


class Event(Protocol):
    @property
    def seq(self) -> int: ...
    @property
    def event_id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def content_digest(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def details(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Batch:
    """What one request brings; checked, and not yet judged by what its stream has acknowledged."""

    who: Identity
    stream_id: str
    received_at: datetime
    windows: Sequence[Window]
    events: Sequence[Event]
    traceparent: str | None = None
    unattested: frozenset[str] = frozenset()
    """Contents that its device has not said in any check-in it runs: kept, and counted as nothing."""

    @property
    def stream(self) -> store.StreamKey:
        return self.who.id, self.stream_id

    @property
    def sender(self) -> Sender:
        who = self.who
        return Sender(who.id, self.stream_id, self.received_at, who.site, who.device_class)

    @property
    def items(self) -> int:
        return len(self.windows) + len(self.events)

    def above(self, mark: int) -> "Batch":
        """Return what of it is new: numbers grow, so it is an end of each part."""
        return replace(self, windows=fresh(self.windows, mark), events=fresh(self.events, mark))

    def judged(self, said: frozenset[str]) -> "Batch":
        """Return what of it is taken by what its device has said; one that never said anything is believed."""
        unattested = frozenset({window.content_digest for window in self.windows} - said) if said else frozenset()
        if not unattested:
            return self
        end = first_to_wait(self.windows, unattested, self.received_at)
        kept = self if end is None else self.before(end)
        return replace(kept, unattested=unattested)

    def before(self, seq: int) -> "Batch":
        windows = [window for window in self.windows if window.seq < seq]
        return replace(self, windows=windows, events=[event for event in self.events if event.seq < seq])

    @property
    def counted(self) -> Sequence[Window]:
        if not self.unattested:
            return self.windows
        return [window for window in self.windows if window.content_digest not in self.unattested]

    def highest(self, mark: int) -> int:
        return max([mark, *(part[-1].seq for part in (self.windows, self.events) if part)])


def batch_of(who: Identity, stream_id: str, windows: Sequence[Window], events: Sequence[Event]) -> Batch:
    """Check what concerns one batch alone.

    Raises:
        Invalid: its numbers do not grow, or a time cannot be stored.
    """
    if out_of_order(windows) or out_of_order(events):
        raise Invalid("windows and events must each come in growing order of seq", code="out_of_order")
    check_times([window.started_at for window in windows])
    check_times([window.ended_at for window in windows])
    check_times([event.at for event in events])
    return Batch(who, stream_id, clock.now(), windows, events, tracing.header())


def check_times(instants: Sequence[datetime]) -> None:
    if out_of_time(instants):
        raise Invalid("an instant is out of range", code="malformed")


async def take_batch(
    session: Session, who: Identity, batch: wire.TelemetryBatch, cell_s: int = 60
) -> wire.TelemetryReply:
    """Make one batch durable, once, and count it in the sums; the answer is for after the commit.

    Raises:
        Refused: the device is not heard, says its row.
    """
    [reply] = await take(session, [batch_of(who, batch.stream_id, batch.windows, batch.events)], cell_s)
    if reply is None:
        raise Refused(f"device {who.id} is not heard")
    return reply


async def take(
    session: Session, batches: Sequence[Batch], cell_s: int, next_batch_s: float = SHORTEST_S
) -> list[wire.TelemetryReply | None]:
    """Make batches durable, each once and in the order they came, whatever of them came before.

    None stands for one that is not taken, for its device's row says that it is not heard.
    """
    streams = {batch.stream: batch.who.key_sha256 for batch in batches}
    held, halvings = await store.lock_streams(session, dict(sorted(streams.items())))
    marks = {stream: known.acknowledged_seq for stream, known in held.items()}
    new, replies = list[Batch](), list[wire.TelemetryReply | None]()
    for batch in batches:
        if batch.stream not in held or streams[batch.stream] != batch.who.key_sha256:
            replies.append(None)
            continue
        rest = batch.above(marks[batch.stream])
        taken = rest.judged(held[batch.stream].said)
        new.append(taken)
        marks[batch.stream] = taken.highest(marks[batch.stream])
        replies.append(
            wire.TelemetryReply(
                acknowledged_seq=marks[batch.stream],
                accepted=taken.items,
                duplicates=batch.items - rest.items,
                next_batch_s=next_batch_s,
            )
        )
    moved = {stream: mark for stream, mark in marks.items() if mark > held[stream].acknowledged_seq}
    if moved:
        await _write(session, new, Sums(cell_s, halvings), moved)
    return replies


async def _write(
    session: Session, batches: Sequence[Batch], found: "Sums", marks: Mapping[store.StreamKey, int]
) -> None:
    """Write windows, events and last the sums: those are rows that other processes wait for."""
    if any(batch.windows for batch in batches):
        windows = [(batch.sender, batch.windows, batch.unattested) for batch in batches if batch.windows]
        # What is added up is added up while the database is busy with the rows.
        await asyncio.gather(store.copy_windows(session, packed(windows)), found.add(batches))
    if any(batch.events for batch in batches):
        await _write_events(session, batches)
    await sums.add(session, found.columns, marks)


class Sums:
    """What a group of batches adds to cells, totals and sums by device."""

    def __init__(self, cell_s: int, halvings: int) -> None:
        self._cell_s, self._halvings = cell_s, halvings
        self._cells: dict[tuple[Place, int], Tally] = {}
        self._totals: dict[Place, Tally] = {}
        self._devices: dict[tuple[str, Place], Tally] = {}
        self.columns = sums.NOTHING

    async def add(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            self._add(batch)
            await asyncio.sleep(0)
        self.columns = sums.prepared(self._cell_s, self._cells, self._totals, self._devices)

    def _add(self, batch: Batch) -> None:
        who = batch.who
        cells = tally(batch.counted, batch.received_at, self._cell_s)
        for content, held in by_content(cells).items():
            place = Place(who.device_class, who.site, content)
            self._totals.setdefault(place, Tally(held.first_at, held.last_at)).add(held)
            if in_panel(who.id, self._halvings):
                add_to(self._devices, (who.id, place), held)
        for (content, start_s), held in cells.items():
            if start_s is not None:
                add_to(self._cells, (Place(who.device_class, who.site, content), start_s), held)


async def _tell_traced(session: Session, batches: Sequence[Batch]) -> None:
    """Keep with the events of which trace they are, so that a run that they ask for is a part of it."""
    for batch in batches:
        if batch.traceparent and batch.events:
            said = {"device": batch.who.id, "kinds": sorted({event.kind for event in batch.events})}
            await outbox.emit(session, TRACED, said, batch.traceparent)


async def _write_events(session: Session, batches: Sequence[Batch]) -> None:
    records, edges = [], []
    for batch in batches:
        for event in batch.events:
            what = (event.seq, event.event_id, event.kind, event.content_digest, event.at, event.details)
            records.append((*batch.sender, *what))
            node = Node(Kind.FIELD_EVENT, event.event_id)
            edges.append(Edge(Node(Kind.DEVICE, batch.who.id), node, "happened to"))
            edges.append(Edge(Node(Kind.MODEL_VERSION, event.content_digest), node, "happened with"))
    await store.copy_events(session, records)
    await _tell_traced(session, batches)
    await lineage.link_all(session, edges)
