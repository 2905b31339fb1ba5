"""Suites, evaluations and gates."""

from typing import Any

from control_plane.evaluation import service
from control_plane.evaluation.schemas import PartItem
from control_plane.kit.http import Cursor, Response
from control_plane.review import service as review
from control_plane.web.edge import SeeCall, pages
from control_plane.web.names import load_names
from control_plane.web.pages.overview import recent_evaluations

SHOWN_FLIPS = 200
MOST_REVIEWS = 200
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
        parts=[_part(part) for part in gate.parts],
        reviews=[r for r in asked if r.kind == service.FLIP and r.subject.startswith(f"{gate.candidate}/")],
        replayed=replayed,
        flips=sorted(gate.flips, key=lambda f: ((f.suite, f.scenario) not in replayed, not f.broke))[:SHOWN_FLIPS],
        broke=sum(flip.broke for flip in gate.flips),
    )


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
