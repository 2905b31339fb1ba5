"""POST /device/v1/check-in: what a device says of itself, and what it should run."""

from agents.protocol import v1 as wire
from control_plane.fleet import service as fleet
from control_plane.kit.db import Session
from control_plane.kit.device_http import answer, device_route, parse, target_of
from control_plane.kit.http import APIRouter, Request, Response, context_of
from control_plane.rollout import service

device_api = APIRouter(tags=["device"])


async def _check_in(request: Request, session: Session, body: bytes) -> Response:
    context, board = context_of(request), request.app.state.board
    who = await fleet.authenticate(
        session, request.app.state.identities, request.headers, request.method, target_of(request), body
    )
    message = parse(wire.CheckIn, body, wire.LIMITS["check_in_bytes"])
    floor = await fleet.see(session, who, message)
    await board.fresh(session)
    order = board.order(who, floor)
    await service.track(session, board, who, message, order)
    envelope = service.sign_manifest(context.signers["director"], who, message, order)
    return answer(wire.CheckInReply(manifest=envelope, next_check_in_s=context.settings.check_in_s))


device_api.add_route("/device/v1/check-in", device_route(_check_in), methods=["POST"])
