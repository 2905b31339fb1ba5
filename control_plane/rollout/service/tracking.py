"""How far each device is with what it was offered, and whose turn it is at a site."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agents.protocol import v1 as wire
from agents.protocol.v1.safe_state import SITE_GRANT_S
from control_plane.fleet import service as fleet
from control_plane.fleet.domain import Identity
from control_plane.kit import clock
from control_plane.kit.db import Database, Session
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Kind, Node
from control_plane.rollout import store
from control_plane.rollout.domain import Order, Report, Standing, standing_of, window_closed
from control_plane.rollout.service.board import Board

REFUSED = wire.DeploymentPhase.REFUSED
SETTLED = frozenset({wire.DeploymentPhase.COMMITTED, wire.DeploymentPhase.IDLE})


def asks_for_site(order: Order | None, message: wire.CheckIn) -> bool:
    """Say whether a device stands ready and only its site's budget or window can be what holds it."""
    said = message.deployment
    return (
        order is not None
        and order.limited
        and said is not None
        and said.release_digest == order.release.digest
        and said.phase is wire.DeploymentPhase.ARMED
        and said.reason in {None, "waiting_site"}
    )


async def grant_site(session: Session, who: Identity, order: Order) -> Order:
    """Let a device out if a window is open and its site's and its cell's budgets have room.

    A grant that is not used ends by itself.
    """
    if order.rollout_id is None or not order.limited:
        return order
    if window_closed(order.windows, who.site, clock.now()):
        return replace(order, site_free=False)
    if order.site_budget is None and order.cell_budget is None:
        return replace(order, site_free=True)
    cell = await fleet.label(session, who.id, order.cell_label) if order.cell_budget is not None else None
    room = store.Room(who.site, order.site_budget, cell, order.cell_budget)
    return replace(order, site_free=await store.grant_site(session, order.rollout_id, who.id, room, SITE_GRANT_S))


def tells_news(board: Board, who: Identity, message: wire.CheckIn, order: Order | None) -> bool:
    """Say whether `track` would write anything."""
    rollout_id = order.rollout_id if order is not None else None
    if rollout_id is None and not board.tracked and who.id not in board.apart:
        return False
    return board.is_news(who.id, (rollout_id, message.active, message.deployment))


async def touch(database: Database, board: Board, devices: Sequence[tuple[str, str | None]]) -> None:
    """Keep the sign of life of devices that say nothing new: (device, the rollout that it is offered, if any)."""
    if not board.tracked or not devices:
        return
    await store.touch_seen(database, devices)


async def track(session: Session, board: Board, who: Identity, message: wire.CheckIn, order: Order | None) -> bool:
    """Keep a device's way through a rollout: what it was offered, how far it is, what it runs.

    Written when it says something new, and every few seconds as a sign of life. Returns whether the device should let
    go of the release for now, to be offered it again: its refusal was of a kind that passes.
    """
    if not tells_news(board, who, message, order):
        return False
    rollout_id = order.rollout_id if order is not None else None
    board.hear(who.id, (rollout_id, message.active, message.deployment))
    active = message.active.content_digest if message.active else None
    report = message.deployment
    if order is None or rollout_id is None:
        settled = report is None or report.phase in SETTLED
        await _touch(session, who.id, active, "idle" if settled else None)
        return False
    about = report if report is not None and report.release_digest == order.release.digest else None
    values = _deployment(who, order, active, about)
    again = about is not None and about.phase is REFUSED and await _again(session, rollout_id, who.id, values)
    await store.put_deployment(session, values)
    await _leave(session, who.id, rollout_id, active)
    if about is not None and about.phase is wire.DeploymentPhase.COMMITTED:
        await lineage.link(session, Node(Kind.DEVICE, who.id), [Node(Kind.ROLLOUT, rollout_id)], "runs")
    return again


async def _touch(session: Session, device_id: str, active: str | None, phase: str | None) -> None:
    """Say of the newest deployment of a device what it runs now; it is told of that rollout no more."""
    found = await store.newest_deployment(session, device_id)
    if found is None:
        return
    deployment, content = found
    deployment.seen_at, deployment.active_content = clock.now(), active
    deployment.phase = phase or deployment.phase
    standing = standing_of(Report(deployment.phase, deployment.reason, active == content, ordered=False), (), 0)
    if deployment.standing != Standing.QUARANTINED or standing is Standing.RETURNED:
        deployment.standing = standing


async def _leave(session: Session, device_id: str, rollout_id: str, active: str | None) -> None:
    """Say of other rollouts that are under way that a device which obeys this one has left their release."""
    for deployment in await store.left_deployments(session, device_id, rollout_id, active):
        if deployment.standing not in (Standing.FAILED, Standing.REVERTED):
            deployment.seen_at, deployment.active_content = clock.now(), active
            deployment.phase, deployment.standing = "idle", Standing.RETURNED


async def _again(session: Session, rollout_id: str, device_id: str, values: dict[str, Any]) -> bool:
    """Count a refusal, and say whether it is one that the device may get over."""
    causes, retries, attempts, phase = await store.retrying(session, rollout_id, device_id)
    values["attempts"] = attempts + (phase != REFUSED.value)
    report = Report(REFUSED.value, values["reason"], runs_it=False, ordered=True, attempts=values["attempts"])
    values["standing"] = standing_of(report, causes, retries)
    return values["standing"] is Standing.RETRYING


def _deployment(who: Identity, order: Order, active: str | None, about: wire.DeploymentReport | None) -> dict[str, Any]:
    phase, reason = (about.phase.value, about.reason) if about else ("offered", None)
    report = Report(phase, reason, active == order.release.content_digest, ordered=True)
    return {
        "rollout_id": order.rollout_id,
        "device_id": who.id,
        "site": who.site,
        "device_class": who.device_class,
        "seen_at": clock.now(),
        "phase": phase,
        "reason": reason,
        "detail": about.detail if about else "",
        "active_content": active,
        "qualification": about.qualification if about else {},
        "standing": standing_of(report, (), 0),
    }
