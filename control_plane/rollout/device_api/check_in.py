"""The check-in with all its rules; `quick.py` answers what was let in here and brings nothing new."""

import asyncio
from typing import Any

from agents.protocol import v1 as wire
from control_plane.fleet import service as fleet
from control_plane.fleet.domain import Identity
from control_plane.kit.device_http import Proof, answer, parse, plain_route, proof_of, remembering
from control_plane.kit.http import APIRouter, Request, Response, context_of
from control_plane.rollout import service
from control_plane.rollout.device_api.plain import read_plain
from control_plane.rollout.domain import Order

device_api = APIRouter(tags=["device"])


async def _check_in(request: Request) -> Response:
    """Answer most check-ins without a transaction of their own: an idle fleet says the same all the time."""
    context, state, body = context_of(request), request.app.state, await request.body()
    quiet: fleet.Quiet = state.quiet
    proof = proof_of(request, body)
    who = await _who(request, proof)
    message = parse(wire.CheckIn, body, wire.LIMITS["check_in_bytes"])
    turn = quiet.begin(who.id)
    await quiet.settle(who.id)
    order, settled = await _order(request, who, message)
    if settled:
        _remember(state, body, turn, who, message.counter_floor, order)
    board: service.Board = state.board
    envelope = service.sign_manifest(state.director.signer, who, message, order, board.revision)
    return answer(wire.CheckInReply(manifest=envelope, next_check_in_s=context.settings.check_in_s))


async def _who(request: Request, proof: Proof) -> Identity:
    identities = request.app.state.identities
    who = fleet.recognise(identities, proof)
    if who is None:
        async with context_of(request).database.transaction() as session:
            who = await fleet.authenticate(session, identities, proof)
    return who


def _remember(state: Any, body: bytes, turn: int, who: Identity, floor: int, order: Order | None) -> None:
    """Have the next check-in answered from memory, if it will bring nothing new."""
    plain = read_plain(body)
    if plain is not None:
        state.quiet.remember(who.id, turn, plain.said, plain.seq, floor, state.offers.of(order))


async def _order(request: Request, who: Identity, message: wire.CheckIn) -> tuple[Order | None, bool]:
    """Return what the device should run, once its word is committed; and whether saying the same again is no news."""
    database, state = context_of(request).database, request.app.state
    board: service.Board = state.board
    came_at = asyncio.get_running_loop().time()
    if not board.is_fresh:
        async with database.transaction() as session:
            await board.fresh(session, context_of(request).objects)
    running = message.active.content_digest if message.active else None
    order = board.order(who, message.counter_floor, running)
    if board.sends_back(order, running):
        async with database.transaction() as session:
            await board.since(session, context_of(request).objects, came_at)
        order = board.order(who, message.counter_floor, running)
    ready = service.asks_for_site(order, message)
    quiet = not ready and not service.tells_news(board, who, message, order)
    if quiet and await fleet.go_on(database, state.identities, who, message):
        return order, True
    async with remembering(request), database.transaction() as session:
        floor = await fleet.see(session, who, message)
        order = board.order(who, floor, running)
        if await service.track(session, board, who, message, order):
            return board.baseline_order(who, floor), False
        asks = service.asks_for_site(order, message)
        if order is not None and asks:
            order = await service.grant_site(session, who, order)
    return order, floor == message.counter_floor and not asks


device_api.add_route("/device/v1/check-in", plain_route(_check_in), methods=["POST"])
