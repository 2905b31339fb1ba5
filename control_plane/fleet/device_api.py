"""POST /device/v1/enrol."""

from agents.protocol import v1 as wire
from control_plane.fleet import service
from control_plane.kit.db import Session
from control_plane.kit.device_http import answer, device_route, parse
from control_plane.kit.http import APIRouter, Request, Response, context_of

device_api = APIRouter(tags=["device"])


async def _enrol(request: Request, session: Session, body: bytes) -> Response:
    message = parse(wire.EnrolRequest, body)
    device_id = await service.enrol(session, message)
    context = context_of(request)
    return answer(
        wire.EnrolReply(
            device_id=device_id,
            director_keys=(context.signers["director"].public_hex,),
            next_check_in_s=context.settings.check_in_s,
        ),
        201,
    )


device_api.add_route("/device/v1/enrol", device_route(_enrol), methods=["POST"])
