"""What a recording shows, seen from above: for the pages of an event and a recording, and the script that draws it."""

import math
from dataclasses import dataclass
from typing import Any

from control_plane.kit.errors import Invalid, NotFound
from control_plane.kit.http import Response
from control_plane.telemetry import service
from control_plane.telemetry.domain import RecordedReplay
from control_plane.web.edge import PageCall, SeeCall, pages

SHOWN_STEPS = 12
recorded = pages()


@dataclass(frozen=True, slots=True)
class Curve:
    """A value of the steps over time; `most` is the top of its scale."""

    title: str
    value: str
    most: int


CLEARANCE = Curve("Clearance to the nearest mover, metres", "clearance_m", 3)
COLLISION = Curve("Time to collision, seconds", "ttc_s", 5)


@dataclass(frozen=True, slots=True)
class Seen:
    """`why` says, where there is no replay, what the recording lacks; `steps` are the last ones, for the table."""

    sha256: str
    replay: RecordedReplay | None
    why: str = ""

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [step.model_dump() for step in self.replay.steps[-SHOWN_STEPS:]] if self.replay else []

    @property
    def curves(self) -> list[Curve]:
        return curves_of(self.replay) if self.replay else []


def curves_of(replay: RecordedReplay) -> list[Curve]:
    """Choose what there are data for."""
    fastest = max(abs(step.speed_mps) for step in replay.steps)
    found = [Curve("Speed, metres a second", "speed_mps", max(1, math.ceil(fastest)))]
    if any(step.clearance_m is not None for step in replay.steps):
        found.insert(0, CLEARANCE)
    return found


async def see(call: PageCall, sha256: str) -> Seen:
    """Decode a recording for a page, which is shown with it or without."""
    try:
        return Seen(sha256, await service.read_replay(call.session, call.context.objects, sha256))
    except (Invalid, NotFound) as error:
        return Seen(sha256, None, str(error))


@recorded.get("/recordings/{sha256}/replay.json")
async def recorded_file(sha256: str, call: SeeCall) -> Response:
    """Give what the recording shows, step by step; read anew from its bytes, whose digest is checked."""
    found = await service.read_replay(call.session, call.context.objects, sha256)
    return Response(found.model_dump_json(), media_type="application/json")
