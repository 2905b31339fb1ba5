"""What both models did in a scenario in which they differ: the page, and the files that its script draws."""

import json
from dataclasses import dataclass
from typing import Any

from control_plane.evaluation import service
from control_plane.evaluation.schemas import GateItem, GateReplayItem
from control_plane.kit.errors import NotFound
from control_plane.kit.http import Response
from control_plane.web.edge import PageCall, SeeCall, pages
from control_plane.web.names import load_names
from control_plane.web.pages.recorded import CLEARANCE, COLLISION, SHOWN_STEPS

SIDES = ("champion", "candidate")
replays = pages()


@dataclass(frozen=True, slots=True)
class Drive:
    """One model's side: `item` is None where there is no replay of it; `steps` are the last ones, for the table."""

    side: str
    content: str | None
    item: GateReplayItem | None
    steps: list[dict[str, Any]]


@replays.get("/gates/{gate_id}/replays/{suite}/{scenario}")
async def show_replay(gate_id: str, suite: str, scenario: str, call: SeeCall) -> Response:
    """Show both models in one scenario; where there is no replay, say what is known and why there is none."""
    gate = await service.get_gate(call.session, gate_id)
    flips = [flip for flip in gate.flips if (flip.suite, flip.scenario) == (suite, scenario)]
    if not flips:
        raise NotFound(
            f"both models fare alike in {scenario[:100]} of {suite[:100]}, or it is no scenario of this gate"
        )
    found = await service.list_replays(call.session, gate_id)
    return call.show(
        "replay.html",
        names=await load_names(call),
        gate=gate,
        suite=suite,
        scenario=scenario,
        flips=flips,
        curves=[CLEARANCE, COLLISION],
        drives=[await _drive(call, gate, found, (suite, scenario, side)) for side in SIDES],
        others=sorted({(r.suite, r.scenario) for r in found}),
    )


async def _drive(call: PageCall, gate: GateItem, found: list[GateReplayItem], asked: tuple[str, str, str]) -> Drive:
    content = gate.candidate if asked[2] == "candidate" else gate.champion
    item = next((r for r in found if (r.suite, r.scenario, r.side) == asked), None)
    if item is None:
        return Drive(asked[2], content, None, [])
    data = await service.read_replay(call.session, call.context.objects, gate.id, *asked)
    return Drive(asked[2], content, item, json.loads(data)["steps"][-SHOWN_STEPS:])


@replays.get("/gates/{gate_id}/replays/{suite}/{scenario}/{side}.json")
async def replay_file(gate_id: str, suite: str, scenario: str, side: str, call: SeeCall) -> Response:
    """Give the file as it was checked when it came; what its digest does not name is never given."""
    asked = (suite, scenario, side)
    data = await service.read_replay(call.session, call.context.objects, gate_id, *asked)
    return Response(data, media_type="application/json")
