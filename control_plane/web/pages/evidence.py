"""Suites, evaluations and gates."""

from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import JSONResponse

from control_plane.evaluation import service
from control_plane.evaluation.schemas import PartItem, PathItem
from control_plane.kit.errors import NotFound
from control_plane.kit.http import Cursor, Response
from control_plane.review import service as review
from control_plane.web.edge import PageCall, SeeCall, pages
from control_plane.web.names import load_names
from control_plane.web.pages.overview import recent_evaluations

SHOWN_FLIPS = 200
MOST_REVIEWS = 200
PATH_S = 3600.0
PATH_SERIES = {"harm": "s3", "safe": "s2", "gain": "s0"}
USED = ("pairs", "cases", "seen")
"""Under which of these names a part says how many scenarios it has looked at."""
evidence = pages()


@evidence.get("/evaluations")
async def show_evaluations(call: SeeCall, after: Cursor = None) -> Response:
    page = await service.list_evaluations(call.session, after=after, limit=12) if after else None
    return call.show(
        "evaluations.html",
        names=await load_names(call),
        suites=(await service.list_suites(call.session))[:30],
        found=page or await recent_evaluations(call),
        gates=(await service.list_gates(call.session, limit=20)).items,
    )


@evidence.get("/gates/{gate_id}")
async def show_gate(gate_id: str, call: SeeCall) -> Response:
    gate = await service.get_gate(call.session, gate_id)
    replayed = {(item.suite, item.scenario) for item in await service.list_replays(call.session, gate_id)}
    asked = (await review.list_reviews(call.session, limit=MOST_REVIEWS)).items
    return call.show(
        "gate.html",
        names=await load_names(call),
        gate=gate,
        paths=await _paths(call, gate_id),
        parts=[_part(part) for part in gate.parts],
        reviews=[r for r in asked if r.kind == service.FLIP and r.subject.startswith(f"{gate.candidate}/")],
        replayed=replayed,
        flips=sorted(gate.flips, key=lambda f: ((f.suite, f.scenario) not in replayed, not f.broke))[:SHOWN_FLIPS],
        broke=sum(flip.broke for flip in gate.flips),
    )


@evidence.get("/gates/{gate_id}/path.json")
async def show_path(gate_id: str, call: SeeCall, part: Annotated[int, Query(ge=0, le=100)] = 0) -> Response:
    """Give how the evidence of one part grew with the scenarios; a gate never changes, so it is traced once."""
    found = await _paths(call, gate_id)
    if part >= len(found):
        raise NotFound(f"gate {gate_id} has no path {part}")
    item = found[part]
    lines = [
        {"name": name, "series": PATH_SERIES.get(name, "s0"), "dashed": name != "harm", "y": values}
        for name, values in item.e_values.items()
    ]
    levels = [{"y": value, "words": f"{value:.3g} decides"} for value in sorted(set(item.needed.values()))]
    return JSONResponse(
        {"x": item.seen, "steps": True, "log": True, "unit": "e-value", "lines": lines, "levels": levels}
    )


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
