"""Rows of subscriptions and deliveries."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from control_plane.kit.db import Row, Session, execute, rows
from control_plane.kit.metrics import Family, Measured, measure
from control_plane.webhooks.domain import State
from control_plane.webhooks.models import Delivery, Webhook

FAILING = Family("fleetloop_webhook_failures", "Deliveries in a row that failed.", ("webhook",))
WAITING = Family("fleetloop_webhook_deliveries_waiting", "Deliveries that are still to be made.", ("webhook",))


SUBSCRIBED = "fleetloop"


async def measures(session: Session) -> list[Measured]:
    waiting = """select name as webhook, count(*) as value from webhook_delivery d join webhook w on w.id = d.webhook_id
                 where d.state = 'waiting' group by name"""
    return [
        await measure(session, FAILING, "select name as webhook, failures as value from webhook where active"),
        await measure(session, WAITING, waiting),
    ]


async def find(session: Session, webhook_id: str, *, lock: bool = False) -> Webhook | None:
    query = select(Webhook).where(Webhook.id == webhook_id)
    return (await session.scalars(query.with_for_update() if lock else query)).one_or_none()


async def find_named(session: Session, name: str) -> Webhook | None:
    return (await session.scalars(select(Webhook).where(Webhook.name == name))).one_or_none()


async def list_webhooks(session: Session, limit: int) -> Sequence[Webhook]:
    query = select(Webhook).where(Webhook.form == SUBSCRIBED).order_by(Webhook.name)
    return (await session.scalars(query.limit(limit))).all()


async def count(session: Session) -> int:
    query = select(func.count()).select_from(Webhook).where(Webhook.form == SUBSCRIBED)
    return int(await session.scalar(query) or 0)


async def put_stated(session: Session, webhook_id: str, form: str, url: str) -> None:
    """Make the webhook that a setting names, or lead it elsewhere."""
    values = {
        "id": webhook_id,
        "name": f"{form} (setting)",
        "url": url,
        "topics": [],
        "form": form,
        "created_by": "settings",
    }
    changed = {"url": url, "active": True}
    statement = insert(Webhook).values(values)
    await session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=changed))


async def put_in_line(session: Session, values: Sequence[dict[str, Any]]) -> None:
    """Line deliveries up; one whose id is known is there already."""
    if values:
        await session.execute(insert(Delivery).on_conflict_do_nothing(), list(values))


async def listening(session: Session, topic: str) -> Sequence[Webhook]:
    return (await session.scalars(select(Webhook).where(Webhook.active, Webhook.topics.contains([topic])))).all()


async def waiting(session: Session, webhook_id: str) -> int:
    query = select(func.count()).select_from(Delivery)
    found = query.where(Delivery.webhook_id == webhook_id, Delivery.state == State.WAITING)
    return int(await session.scalar(found) or 0)


async def deliveries(session: Session, webhook_id: str, limit: int) -> Sequence[Delivery]:
    query = select(Delivery).where(Delivery.webhook_id == webhook_id)
    return (await session.scalars(query.order_by(Delivery.created_at.desc(), Delivery.id.desc()).limit(limit))).all()


async def find_delivery(session: Session, delivery_id: str) -> Delivery | None:
    return (await session.scalars(select(Delivery).where(Delivery.id == delivery_id).with_for_update())).one_or_none()


async def claim(session: Session, each: int, limit: int, lease_s: float) -> Sequence[Row]:
    """Claim due deliveries, a few of each webhook, so that a slow one does not keep the others waiting.

    Of a line the first that waits goes before the others, by topic; lines do not wait for each other.

    The claim counts as an attempt and pushes the next one out: a worker that dies leaves them to be tried later.
    """
    return await rows(
        session,
        """update webhook_delivery d
           set attempts = attempts + 1, next_at = now() + :lease * interval '1 second', tried_at = now()
           from (select due.id, w.url, w.epoch, w.form from webhook w cross join lateral (
                     select id from webhook_delivery d
                     where webhook_id = w.id and state = 'waiting' and next_at <= now()
                       and (line is null or not exists (
                           select 1 from webhook_delivery e where e.webhook_id = w.id and e.line = d.line
                             and e.state = 'waiting' and e.topic < d.topic))
                     order by next_at
                     limit case when w.form = :subscribed then cast(:each as int) else cast(:limit as int) end
                     for update skip locked) due
                 where w.active order by w.form <> :subscribed limit cast(:limit as int)) claimed
           where d.id = claimed.id
           returning d.id, d.webhook_id, d.topic, d.body, d.attempts, claimed.url, claimed.epoch, claimed.form""",
        each=each,
        subscribed=SUBSCRIBED,
        limit=limit,
        lease=lease_s,
    )


async def give_up(session: Session, webhook_id: str, note: str) -> None:
    """End what still waits for a webhook that is tried no more."""
    query = update(Delivery).where(Delivery.webhook_id == webhook_id, Delivery.state == State.WAITING)
    await session.execute(query.values(state=State.FAILED, note=note))


async def forget(session: Session, webhook_id: str) -> None:
    await session.execute(delete(Webhook).where(Webhook.id == webhook_id))


async def tidy(session: Session, before: datetime, most: int) -> None:
    """Forget old deliveries, and those of a webhook beyond its newest; whatever waits stays."""
    await execute(
        session,
        """delete from webhook_delivery where id in (
             select id from (
               select id, created_at, line,
                      row_number() over (partition by webhook_id order by created_at desc) as place
               from webhook_delivery where state <> 'waiting') old
             where created_at < :before or (place > :most and line is null) limit 10000)""",
        before=before,
        most=most,
    )
