"""The stream that keeps pages live, and the palette's search."""

from urllib.parse import urlencode

from fastapi.responses import HTMLResponse, StreamingResponse

from control_plane.evaluation import service as evaluation
from control_plane.fleet import service as fleet
from control_plane.fleet.domain import Filter
from control_plane.kit.http import APIRouter, Request, Response, context_of
from control_plane.pipelines import service as pipelines
from control_plane.registry import service as registry
from control_plane.rollout import service as rollout
from control_plane.web.edge import HEADERS, LoginNeeded, PageCall, SeeCall, failure, page_call, pages
from control_plane.web.names import load_names
from control_plane.web.nav import DOORS, Door
from control_plane.web.pulse import Pulse
from control_plane.web.render import page, short_id

SHOWN = 14
DEVICES = 4
ID_LEAST = 6
"""From so many signs on, a part of an id or digest is meant rather than a word."""
LOOKED_AT = 50
MAX_ASKED = 100
live = APIRouter(include_in_schema=False)
found = pages()


@live.get("/live")
async def stream(request: Request) -> Response:
    """Say what changes for as long as the page is open; nothing is held in the database meanwhile."""
    pulse: Pulse = request.app.state.pulse
    if pulse.is_full or pulse.closing:
        return Response("too many pages are open here\n", 503, headers={"Retry-After": "10"})
    try:
        async with context_of(request).database.transaction() as session:
            request.state.session = session
            await page_call(request)
    except LoginNeeded as error:
        return failure(request, error)
    headers = HEADERS | {"X-Accel-Buffering": "no"}
    return StreamingResponse(pulse.stream(), media_type="text/event-stream", headers=headers)


@found.get("/find")
async def find(call: SeeCall, q: str = "") -> Response:
    """Find pages and things by a part of their name."""
    asked = q.strip().lower()[:MAX_ASKED]
    devices = await _devices(call, q.strip()[:MAX_ASKED])
    exact = [door for door in devices if door.words.lower() == asked]
    doors = [door for door in [*DOORS, *await _things(call, asked)] if _fits(door, asked)][: SHOWN - DEVICES]
    doors = [*exact, *doors, *(door for door in devices if door not in exact)]
    if len(devices) == DEVICES:
        doors.append(
            Door(f"/fleet?{urlencode({'q': q.strip()[:MAX_ASKED]})}", f"devices {q.strip()[:40]}…", "by serial or id")
        )
    if call.request.headers.get("hx-request") == "true":
        return HTMLResponse(page("found.html", doors=doors, asked=asked))
    return call.show("find.html", doors=doors, asked=asked)


def _fits(door: Door, asked: str) -> bool:
    """Say whether every part of what is asked is in a door's words, or the whole of it in its address."""
    words = f"{door.words} {door.says}".lower()
    return all(part in words for part in asked.split()) or (len(asked) >= ID_LEAST and asked in door.href.lower())


async def _devices(call: PageCall, asked: str) -> list[Door]:
    """Return the first devices whose serial or id begins so."""
    if not asked:
        return []
    listed = await fleet.list_fleet(call.session, Filter(asked), limit=DEVICES)
    return [Door(f"/fleet/{d.device_id}", d.serial, f"device at {d.site}: {d.health}") for d in listed.items]


async def _things(call: PageCall, asked: str) -> list[Door]:
    """Return what has a page of its own, newest first; only where something is asked."""
    if not asked:
        return []
    names = await load_names(call)
    things = [Door(f"/models/{name}", name, f"model: {model.title}") for name, model in names.models.items()]
    things += [
        Door(f"/versions/{digest}", f"{item.model} v{item.version}", f"version {digest[:12]}")
        for digest, item in names.versions.items()
    ]
    rollouts = (await rollout.list_rollouts(call.session, limit=LOOKED_AT)).items
    things += [
        Door(f"/rollouts/{r.id}", f"rollout {names.label(r.content_digest)}", f"{r.phase} {short_id(r.id)}")
        for r in rollouts
    ]
    gates = (await evaluation.list_gates(call.session, limit=LOOKED_AT)).items
    things += [
        Door(f"/gates/{g.id}", f"gate {names.label(g.candidate)}", f"{g.verdict} {short_id(g.id)}") for g in gates
    ]
    runs = (await pipelines.list_runs(call.session, limit=LOOKED_AT)).items
    things += [
        Door(
            f"/releases/{r.digest}", f"release {names.label(r.content_digest)}", f"counter {r.counter}, {r.digest[:12]}"
        )
        for r in await registry.list_releases(call.session)
    ]
    places = {(line.site, line.device_class) for line in await fleet.summary(call.session)}
    things += [
        Door(f"/fleet?{urlencode({'site': site})}", site, "devices at this site")
        for site in sorted({s for s, _ in places})
    ]
    things += [
        Door(f"/fleet?{urlencode({'class': c})}", c, "devices of this class") for c in sorted({c for _, c in places})
    ]
    return things + [Door(f"/runs/{r.id}", f"run {r.pipeline}", f"{r.state} {short_id(r.id)}") for r in runs]
