"""Suites, evaluations and gates."""

from control_plane.evaluation import service
from control_plane.kit.http import Cursor, Response
from control_plane.web.edge import SeeCall, pages
from control_plane.web.names import load_names
from control_plane.web.pages.overview import recent_evaluations

SHOWN_FLIPS = 200
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
    return call.show(
        "gate.html",
        names=await load_names(call),
        gate=gate,
        flips=sorted(gate.flips, key=lambda flip: not flip.broke)[:SHOWN_FLIPS],
        broke=sum(flip.broke for flip in gate.flips),
    )
