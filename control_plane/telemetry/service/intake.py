"""Take telemetry in exactly once."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from agents.protocol import v1 as wire
from control_plane.fleet.domain import Identity
from control_plane.kit import clock
from control_plane.kit.db import Session
from control_plane.kit.errors import Invalid
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Edge, Kind, Node
from control_plane.telemetry.domain import CellKey, Place, Tally, fresh, in_panel, out_of_order, out_of_time, tally
from control_plane.telemetry.store import intake as store
from control_plane.telemetry.store import sums


async def take_batch(session: Session, who: Identity, batch: wire.TelemetryBatch, cell_s: int = 60) -> wire.TelemetryReply:
    """Make a batch durable, once, and count it in the sums; the answer is sent after the commit."""
    if out_of_order(batch.windows) or out_of_order(batch.events):
        raise Invalid("windows and events must each come in growing order of seq", code="out_of_order")
    check_times(i for w in batch.windows for i in (w.started_at, w.ended_at))
    check_times(e.at for e in batch.events)
    acknowledged = await store.lock_stream(session, who.id, batch.stream_id)
    windows, events = fresh(batch.windows, acknowledged), fresh(batch.events, acknowledged)
    sender, at = (who.id, who.site, who.device_class), clock.now()
    if windows:
        await store.copy_windows(session, sender, batch.stream_id, at, windows)
        await _add_up(session, who, tally(windows, at, cell_s), cell_s)
    if events:
        await store.copy_events(session, sender, batch.stream_id, at, events)
        await _link_events(session, who, events)
    highest = max([acknowledged, *(w.seq for w in windows), *(e.seq for e in events)])
    if highest > acknowledged:
        await store.acknowledge(session, who.id, batch.stream_id, highest)
    taken = len(windows) + len(events)
    return wire.TelemetryReply(
        acknowledged_seq=highest,
        accepted=taken,
        next_batch_s=1.0,
        duplicates=len(batch.windows) + len(batch.events) - taken,
    )


async def _add_up(session: Session, who: Identity, found: Mapping[CellKey, Tally], cell_s: int) -> None:
    places: dict[Place, Tally] = {}
    cells: dict[tuple[Place, int], Tally] = {}
    for (content, start_s), held in found.items():
        place = Place(who.device_class, who.site, content)
        places.setdefault(place, Tally(held.first_at, held.last_at)).add(held)
        if start_s is not None:
            cells[place, start_s] = held
    await sums.add_cells(session, cell_s, cells)
    await sums.add_totals(session, places)
    if in_panel(who.id, await sums.halvings(session)):
        await sums.add_device_sums(session, {(who.id, place): held for place, held in places.items()})


def check_times(instants: Iterable[datetime]) -> None:
    if out_of_time(instants):
        raise Invalid("an instant is out of range", code="malformed")


async def _link_events(session: Session, who: Identity, events: Sequence[wire.FieldEvent]) -> None:
    edges = []
    for event in events:
        node = Node(Kind.FIELD_EVENT, event.event_id)
        edges.append(Edge(Node(Kind.DEVICE, who.id), node, "happened to"))
        edges.append(Edge(Node(Kind.MODEL_VERSION, event.content_digest), node, "happened with"))
    await lineage.link_all(session, edges)
