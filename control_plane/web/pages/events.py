"""Field events and recordings."""

from collections import Counter
from datetime import datetime, timedelta

from markupsafe import Markup

from control_plane.fleet import service as fleet
from control_plane.kit.errors import NotFound
from control_plane.kit.http import Cursor, Response
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Kind, Node
from control_plane.lineage.schemas import LineageEdgeItem
from control_plane.telemetry import service
from control_plane.telemetry.domain import RecordingState
from control_plane.telemetry.schemas import FieldEventItem
from control_plane.web.charts import Column, Share, columns
from control_plane.web.edge import PageCall, SeeCall, pages
from control_plane.web.names import RATE_S, incident_kinds, load_names
from control_plane.web.pages.recorded import see

CHARTED = 500
SLICES = 36
NICE_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400, 604800, 2592000)
events = pages()


@events.get("/events")
async def show_events(call: SeeCall, kind: str | None = None, after: Cursor = None) -> Response:
    names = await load_names(call)
    found = await service.list_events(call.session, kind=kind or None, after=after, limit=50)
    recent = await _recent(call)
    kinds = sorted({k for model in names.models.values() for k in model.events} | {e.kind for e in recent})
    charted = [event for event in recent if kind in (None, "", event.kind)]
    return call.show(
        "events.html",
        names=names,
        found=found,
        kind=kind or "",
        kinds=kinds,
        serials=await fleet.serials(call.session, {event.device_id for event in found.items}),
        picture=_picture(charted, kinds),
        colours=[(k.replace("_", " "), _series(kinds, k)) for k in kinds],
        charted=len(charted),
        incidents=incident_kinds(names),
    )


async def _recent(call: PageCall) -> list[FieldEventItem]:
    """Return what the picture counts, at most some seconds old."""

    async def read() -> list[FieldEventItem]:
        return (await service.list_events(call.session, limit=CHARTED)).items

    return await call.desk.cache.get("recent events", RATE_S, read)


def _series(kinds: list[str], kind: str) -> str:
    return f"s{kinds.index(kind) % 7}"


def _picture(recent: list[FieldEventItem], kinds: list[str]) -> Markup | None:
    """Count events by kind in slices of a round length."""
    if not recent:
        return None
    first, last = min(e.at for e in recent), max(e.at for e in recent)
    span = max((last - first).total_seconds(), 1)
    length = next((s for s in NICE_S if span / s <= SLICES), NICE_S[-1])
    start = first.timestamp() // length * length
    counts = Counter((int((e.at.timestamp() - start) // length), e.kind) for e in recent)
    number = int((last.timestamp() - start) // length) + 1
    form = "%m-%d" if length >= 86400 else "%H:%M" if length >= 60 else "%H:%M:%S"
    origin = datetime.fromtimestamp(start, tz=first.tzinfo)
    items = [
        Column(
            f"{origin + timedelta(seconds=i * length):{form}}",
            [Share(k.replace("_", " "), counts[(i, k)], _series(kinds, k)) for k in kinds],
        )
        for i in range(min(number, 400))
    ]
    return columns(f"Field events by kind, per {length} s", items)


@events.get("/events/{number}")
async def show_event(number: int, call: SeeCall) -> Response:
    """Show one event, its recordings and what was made of them."""
    found = (await service.list_events(call.session, since_number=number - 1, limit=1)).items
    if not found or found[0].number != number:
        raise NotFound(f"there is no field event number {number}")
    made = await _made_of(call, Node(Kind.FIELD_EVENT, found[0].event_id))
    device = await fleet.get_device(call.session, found[0].device_id)
    recordings = [edge.target.name for edge in made if edge.target.kind is Kind.RECORDING]
    return call.show(
        "event.html",
        names=await load_names(call),
        event=found[0],
        device=device,
        recordings=recordings,
        seen=await see(call, recordings[0]) if recordings else None,
        datasets=[edge.target.name for edge in made if edge.target.kind is Kind.DATASET],
    )


async def _made_of(call: PageCall, node: Node) -> list[LineageEdgeItem]:
    try:
        return (await lineage.trace(call.session, node, down=True, depth=2)).edges
    except NotFound:
        return []


async def _number_of(call: PageCall, event_id: str | None) -> int | None:
    return (await service.numbers_of(call.session, [event_id])).get(event_id) if event_id else None


@events.get("/recordings/{sha256}")
async def show_recording(sha256: str, call: SeeCall) -> Response:
    recording = await service.get_recording(call.session, sha256)
    made = await _made_of(call, Node(Kind.RECORDING, sha256))
    device = await fleet.get_device(call.session, recording.device_id)
    classes = {c.name: c for c in await fleet.list_classes(call.session)}
    return call.show(
        "recording.html",
        names=await load_names(call),
        recording=recording,
        device_class=classes.get(device.device_class),
        device=device,
        event=await _number_of(call, recording.event_id),
        seen=await see(call, sha256) if recording.state is RecordingState.STORED else None,
        datasets=sorted({edge.target.name for edge in made if edge.target.kind is Kind.DATASET}),
    )
