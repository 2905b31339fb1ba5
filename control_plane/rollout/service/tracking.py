"""How far each device is with what it was offered, and whose turn it is at a site."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agents.protocol import v1 as wire
from agents.protocol.v1.safe_state import SITE_GRANT_S
from control_plane.fleet.domain import Identity
from control_plane.kit import clock
from control_plane.kit.db import Database, Session
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Kind, Node
from control_plane.rollout import store
from control_plane.rollout.domain import Order
from control_plane.rollout.service.board import Board

SETTLED = frozenset({wire.DeploymentPhase.COMMITTED, wire.DeploymentPhase.IDLE})


def asks_for_site(order: Order | None, message: wire.CheckIn) -> bool:
    """Say whether a device stands ready and only its site's budget can be what holds it."""
    said = message.deployment
    return (
        order is not None
        and order.site_budget is not None
        and said is not None
        and said.release_digest == order.release.digest
        and said.phase is wire.DeploymentPhase.ARMED
        and said.reason in {None, "waiting_site"}
    )


async def grant_site(session: Session, who: Identity, order: Order) -> Order:
    """Let a device out if its site's budget has room; a grant that is not used ends by itself."""
    if order.rollout_id is None or order.site_budget is None:
        return order
    free = await store.grant_site(session, order.rollout_id, who.id, who.site, order.site_budget, SITE_GRANT_S)
    return replace(order, site_free=free)


def tells_news(board: Board, who: Identity, message: wire.CheckIn, order: Order | None) -> bool:
    """Say whether `track` would write anything."""
    rollout_id = order.rollout_id if order is not None else None
    if rollout_id is None and not board.tracked:
        return False
    return board.is_news(who.id, (rollout_id, message.active, message.deployment))


async def touch(database: Database, board: Board, devices: Sequence[tuple[str, str | None]]) -> None:
    """Keep the sign of life of devices that say nothing new: (device, the rollout that it is offered, if any)."""
    if not board.tracked or not devices:
        return
    await database.fetch(
        """update rollout_deployment d set seen_at = now()
           from unnest($1::text[], $2::text[]) as n(device, rollout)
           where d.device_id = n.device and d.rollout_id = coalesce(n.rollout,
               (select max(newest.rollout_id) from rollout_deployment newest where newest.device_id = n.device))""",
        [device for device, _ in devices],
        [rollout for _, rollout in devices],
    )


async def track(session: Session, board: Board, who: Identity, message: wire.CheckIn, order: Order | None) -> None:
    """Keep a device's way through a rollout: what it was offered, how far it is, what it runs.

    Written when it says something new, and every few seconds as a sign of life.
    """
    if not tells_news(board, who, message, order):
        return
    rollout_id = order.rollout_id if order is not None else None
    board.hear(who.id, (rollout_id, message.active, message.deployment))
    active = message.active.content_digest if message.active else None
    report = message.deployment
    if order is None or rollout_id is None:
        phase = {"phase": "idle"} if report is None or report.phase in SETTLED else {}
        await store.touch_deployment(session, who.id, {"seen_at": clock.now(), "active_content": active} | phase)
        return
    about = report if report is not None and report.release_digest == order.release.digest else None
    await store.put_deployment(session, _deployment(who, rollout_id, active, about))
    if about is not None and about.phase is wire.DeploymentPhase.COMMITTED:
        await lineage.link(session, Node(Kind.DEVICE, who.id), [Node(Kind.ROLLOUT, rollout_id)], "runs")


def _deployment(
    who: Identity, rollout_id: str, active: str | None, about: wire.DeploymentReport | None
) -> dict[str, Any]:
    return {
        "rollout_id": rollout_id,
        "device_id": who.id,
        "site": who.site,
        "device_class": who.device_class,
        "seen_at": clock.now(),
        "phase": about.phase.value if about else "offered",
        "reason": about.reason if about else None,
        "detail": about.detail if about else "",
        "active_content": active,
        "qualification": about.qualification if about else {},
    }
