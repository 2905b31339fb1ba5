"""POST /device/v1/telemetry, /device/v1/recordings and their completion."""

from agents.protocol import v1 as wire
from control_plane.fleet import service as fleet
from control_plane.fleet.domain import Identity
from control_plane.kit.db import Session
from control_plane.kit.device_http import answer, device_route, parse, plain_route, proof_of
from control_plane.kit.errors import Invalid
from control_plane.kit.http import APIRouter, Request, Response, context_of
from control_plane.telemetry import service
from control_plane.telemetry.domain import read_plain

device_api = APIRouter(tags=["device"])


async def _who(request: Request, session: Session, body: bytes) -> Identity:
    return await fleet.authenticate(session, request.app.state.identities, proof_of(request, body))


async def _telemetry(request: Request) -> Response:
    """Take a batch without a transaction of its own: it shares one with those that come at the same time."""
    body = await request.body()
    who = await _recognised(request, body)
    intake: service.Intake = request.app.state.intake
    return answer(await intake.take(_batch(who, body)))


def _batch(who: Identity, body: bytes) -> service.Batch:
    plain = read_plain(body) if len(body) <= wire.LIMITS["body_bytes"] else None
    if plain is not None:
        return service.batch_of(who, *plain)
    message = parse(wire.TelemetryBatch, body)
    return service.batch_of(who, message.stream_id, message.windows, message.events)


async def _recognised(request: Request, body: bytes) -> Identity:
    identities, proof = request.app.state.identities, proof_of(request, body)
    who = fleet.recognise(identities, proof)
    if who is None:
        async with context_of(request).database.transaction() as session:
            who = await fleet.authenticate(session, identities, proof)
    return who


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


device_api.add_route("/device/v1/telemetry", plain_route(_telemetry), methods=["POST"])
device_api.add_route("/device/v1/recordings", device_route(_recordings), methods=["POST"])
device_api.add_route("/device/v1/recordings/{sha256}/complete", device_route(_complete), methods=["POST"])
