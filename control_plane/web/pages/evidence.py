"""Suites, evaluations and gates."""

from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import JSONResponse

from control_plane.evaluation import service
from control_plane.evaluation.schemas import PartItem, PathItem
from control_plane.fleet import service as fleet
from control_plane.kit.errors import NotFound
from control_plane.kit.http import Cursor, Response
from control_plane.review import service as review
from control_plane.telemetry import service as telemetry
from control_plane.web import judged
from control_plane.web.edge import PageCall, SeeCall, pages
from control_plane.web.names import load_names
from control_plane.web.pages.overview import recent_evaluations

SHOWN_FLIPS = 200
MOST_REVIEWS = 200
PATH_S = 3600.0
USED = ("pairs", "cases", "seen")
"""Under which of these names a part says how many scenarios it has looked at."""
evidence = pages()


@evidence.get("/evaluations")
async def show_evaluations(call: SeeCall, after: Cursor = None) -> Response:
    page = await service.list_evaluations(call.session, after=after, limit=12) if after else None
    gates = (await service.list_gates(call.session, limit=20)).items
    return call.show(
        "evaluations.html",
        judged=judged.judged_by(gates),
        progress=judged.progress,
        names=await load_names(call),
        suites=(await service.list_suites(call.session))[:30],
        found=page or await recent_evaluations(call),
        gates=gates,
    )


@evidence.get("/gates/{gate_id}")
async def show_gate(gate_id: str, call: SeeCall) -> Response:
    gate = await service.get_gate(call.session, gate_id)
    replayed = {(item.suite, item.scenario) for item in await service.list_replays(call.session, gate_id)}
    flips = judged.in_turn(gate.flips, replayed)[:SHOWN_FLIPS]
    asked = (await review.list_reviews(call.session, limit=MOST_REVIEWS)).items
    return call.show(
        "gate.html",
        names=await load_names(call),
        gate=gate,
        paths=await _paths(call, gate_id),
        parts=[_part(part) for part in gate.parts],
        reviews=[r for r in asked if r.kind == service.FLIP and r.subject.startswith(f"{gate.candidate}/")],
        replayed=replayed,
        flips=flips,
        clusters=await _clusters(call, [flip.cluster for flip in flips]),
        suites=await service.suite_names(call.session, gate.evidence.get("suites", [])),
        unit_of=judged.unit_of,
        looked=judged.looked,
        broke=sum(flip.broke for flip in gate.flips),
    )


@evidence.get("/gates/{gate_id}/path.json")
async def show_path(gate_id: str, call: SeeCall, part: Annotated[int, Query(ge=0, le=100)] = 0) -> Response:
    """Give how the evidence of one part grew with the scenarios; a gate never changes, so it is traced once."""
    found = await _paths(call, gate_id)
    if part >= len(found):
        raise NotFound(f"gate {gate_id} has no path {part}")
    return JSONResponse(judged.plot_of(found[part]))


async def _clusters(call: PageCall, names: list[str]) -> dict[str, str]:
    """Return words for clusters: a robot and its event, where a field event made them."""
    devices = {device for name in names if (device := judged.device_of(name))}
    serials = await fleet.serials(call.session, devices)
    numbers = await telemetry.numbers_of(call.session, names)
    return {name: judged.cluster_words(name, serials, numbers) for name in names}


async def _paths(call: PageCall, gate_id: str) -> list[PathItem]:
    key = ("path", gate_id)
    objects = call.context.objects
    return await call.desk.cache.get(key, PATH_S, lambda: service.paths(call.session, objects, gate_id))


def _part(part: PartItem) -> dict[str, Any]:
    """Pick what every part is asked: how many scenarios of how many, within what margin, with what power."""
    figures = part.figures
    limits = ("margin", "bound", "at_most")
    return {
        "item": part,
        "planned": figures.get("planned"),
        "used": next((figures[name] for name in USED if name in figures), 0),
        "margin": next((figures[name] for name in limits if name in figures), None),
        "power": figures.get("power"),
    }
