"""POST /device/v1/check-in: what a device says of itself, and what it should run."""

from agents.protocol import v1 as wire
from control_plane.fleet import service as fleet
from control_plane.fleet.domain import Identity
from control_plane.kit.context import Context
from control_plane.kit.device_http import answer, parse, plain_route, proof_of, remembering
from control_plane.kit.http import APIRouter, Request, Response, context_of
from control_plane.kit.signing import Signer
from control_plane.rollout import service
from control_plane.rollout.domain import Order

device_api = APIRouter(tags=["device"])


async def _check_in(request: Request) -> Response:
    """Answer most check-ins without a transaction of their own: an idle fleet says the same all the time."""
    context, body = context_of(request), await request.body()
    who = await _who(request, body)
    message = parse(wire.CheckIn, body, wire.LIMITS["check_in_bytes"])
    order = await _order(request, who, message)
    board: service.Board = request.app.state.board
    envelope = service.sign_manifest(_director(context, board), who, message, order, board.revision)
    return answer(wire.CheckInReply(manifest=envelope, next_check_in_s=context.settings.check_in_s))


def _director(context: Context, board: service.Board) -> Signer:
    """Return the newest of our director keys that devices believe by now."""
    if not context.keyring.ready:
        return context.signers["director"]
    return context.keyring.raw("director", board.director_keys)


async def _who(request: Request, body: bytes) -> Identity:
    identities, proof = request.app.state.identities, proof_of(request, body)
    who = fleet.recognise(identities, proof)
    if who is None:
        async with context_of(request).database.transaction() as session:
            who = await fleet.authenticate(session, identities, proof)
    return who


async def _order(request: Request, who: Identity, message: wire.CheckIn) -> Order | None:
    """Return what the device should run, once its word is committed."""
    database, state = context_of(request).database, request.app.state
    board: service.Board = state.board
    if not board.is_fresh:
        async with database.transaction() as session:
            await board.fresh(session, context_of(request).objects)
    running = message.active.content_digest if message.active else None
    order = board.order(who, message.counter_floor, running)
    ready = service.asks_for_site(order, message)
    quiet = not ready and not service.tells_news(board, who, message, order)
    if quiet and await fleet.go_on(database, state.identities, who, message):
        return order
    async with remembering(request), database.transaction() as session:
        floor = await fleet.see(session, who, message)
        order = board.order(who, floor, running)
        if await service.track(session, board, who, message, order):
            return board.baseline_order(who, floor)
        if order is not None and service.asks_for_site(order, message):
            order = await service.grant_site(session, who, order)
    return order


device_api.add_route("/device/v1/check-in", plain_route(_check_in), methods=["POST"])
