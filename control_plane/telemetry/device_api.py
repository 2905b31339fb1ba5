"""POST /device/v1/telemetry, /device/v1/recordings and their completion."""

from agents.protocol import v1 as wire
from control_plane.fleet import service as fleet
from control_plane.fleet.domain import Identity
from control_plane.kit.db import Session
from control_plane.kit.device_http import answer, device_route, parse, proof_of
from control_plane.kit.errors import Invalid
from control_plane.kit.http import APIRouter, Request, Response, context_of
from control_plane.telemetry import service

device_api = APIRouter(tags=["device"])


async def _who(request: Request, session: Session, body: bytes) -> Identity:
    return await fleet.authenticate(session, request.app.state.identities, proof_of(request, body))


async def _telemetry(request: Request, session: Session, body: bytes) -> Response:
    who = await _who(request, session, body)
    cell_s = context_of(request).settings.evidence_cell_s
    return answer(await service.take_batch(session, who, parse(wire.TelemetryBatch, body), cell_s))


async def _recordings(request: Request, session: Session, body: bytes) -> Response:
    who = await _who(request, session, body)
    message = parse(wire.RecordingAnnounce, body)
    required = context_of(request).settings.require_signed
    await fleet.check_recording(session, request.app.state.identities, who, message, required=required)
    reply = await service.announce(session, context_of(request).objects, who, message)
    return answer(reply, 201 if reply.state is wire.RecordingState.WANTED else 200)


async def _complete(request: Request, session: Session, body: bytes) -> Response:
    who = await _who(request, session, body)
    sha256 = request.path_params["sha256"]
    if len(sha256) != 64 or not all(c in "0123456789abcdef" for c in sha256):
        raise Invalid("a recording is named by its sha256 in lower-case hex", code="malformed")
    return answer(await service.complete(session, context_of(request).objects, who, sha256))


device_api.add_route("/device/v1/telemetry", device_route(_telemetry), methods=["POST"])
device_api.add_route("/device/v1/recordings", device_route(_recordings), methods=["POST"])
device_api.add_route("/device/v1/recordings/{sha256}/complete", device_route(_complete), methods=["POST"])
