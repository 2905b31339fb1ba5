"""Make a decision's actions so; each may be repeated."""

from datetime import datetime

from control_plane.audit import service as audit
from control_plane.kit.db import Session, execute
from control_plane.review import service as review
from control_plane.rollout import store
from control_plane.rollout.domain import HOLDING, AskPerson, Complete, Offer, Quarantine, Standing, Withdraw, due_back
from control_plane.rollout.models import RolloutRow
from control_plane.rollout.reconcile.record import plan_of
from control_plane.rollout.service import ACTOR

NAMED_MOST = 50


async def do(session: Session, row: RolloutRow, action: object, at: datetime) -> None:
    match action:
        case Offer():
            await _offer(session, row)
        case Withdraw():
            row.offering = False
        case Quarantine():
            await _quarantine(session, row)
        case Complete():
            await _complete(session, row, at)
        case AskPerson(question=question):
            await review.ask(session, ACTOR, "rollout_held", row.id, question, dict(row.figures))
        case _:
            raise AssertionError(action)


async def _offer(session: Session, row: RolloutRow) -> None:
    """Offer it; said once, for who is told looks again at once, and this is asked for at every look."""
    if not row.offering:
        row.offering = True
        await execute(session, "select pg_notify('fleetloop', ''), pg_notify('fleetloop_rollout', '')")


async def _quarantine(session: Session, row: RolloutRow) -> None:
    """Set devices apart that did not come back; they are offered nothing but the way back until they run it."""
    plan = plan_of(row)
    share = plan.returns[min(row.wave, len(plan.returns) - 1)]
    lost = due_back(row.id, await store.in_standing(session, row.id, HOLDING), share)
    await store.stand(session, row.id, lost, Standing.QUARANTINED)
    question = f"{len(lost)} devices did not come back from rollout {row.id}: what is wrong with them?"
    evidence = {"devices": lost[:NAMED_MOST], "count": len(lost)}
    await review.ask(session, ACTOR, "rollout_quarantine", row.id, question, evidence)
    await audit.record(session, ACTOR, "rollout.quarantine", row.id, question, **evidence)


async def _complete(session: Session, row: RolloutRow, at: datetime) -> None:
    row.offering = False
    values = {"release": row.release, "content_digest": row.content_digest, "counter": row.counter, "since": at}
    for device_class in row.device_classes:
        await store.put_baseline(session, device_class, values, row.sites)
