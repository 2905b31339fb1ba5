"""What is to be delivered: one row for each webhook that listens; what came of each attempt."""

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from control_plane.audit import service as audit
from control_plane.kit import clock
from control_plane.kit.db import Row, Session
from control_plane.kit.errors import Conflict, NotFound, Unavailable
from control_plane.kit.ids import new_id
from control_plane.review import service as review
from control_plane.webhooks import store
from control_plane.webhooks.domain import TEST, Answer, State, weigh, weigh_patiently
from control_plane.webhooks.models import Delivery, Webhook
from control_plane.webhooks.schemas import DeliveryItem

ACTOR = "webhooks"
DISABLED = "webhook_disabled"
MOST_WAITING = 1000
OPENLINEAGE, OPENLINEAGE_ID = "openlineage", "hook_openlineage"
MOST_LINED = 100_000
SHOWN = 100
KEPT, KEPT_DAYS = 500, 30
EACH, AT_ONCE, LEASE_S = 2, 16, 60.0


async def fan_out(session: Session, public_url: str, topic: str, payload: Mapping[str, Any]) -> None:
    """Take an outbox event to every webhook that listens; one that hears nothing any more gets no more."""
    event = new_id("evt")
    for webhook in await store.listening(session, topic):
        if await store.waiting(session, webhook.id) < MOST_WAITING:
            _put(session, public_url, webhook, topic, {**payload, "event": event})
    await session.flush()


class Lined(Protocol):
    """What goes in a line: `id` names it for ever, `place` orders it within its `line`."""

    @property
    def id(self) -> str: ...
    @property
    def line(self) -> str: ...
    @property
    def place(self) -> str: ...
    @property
    def body(self) -> str: ...


async def line_up(session: Session, url: str, events: Sequence[Lined]) -> None:
    """Have run events delivered to where a setting says, each once and in the order of its line.

    Raises:
        Unavailable: too many wait already; what asked for it stays in the outbox.
    """
    await store.put_stated(session, OPENLINEAGE_ID, OPENLINEAGE, url)
    if events and await store.waiting(session, OPENLINEAGE_ID) >= MOST_LINED:
        raise Unavailable(f"{MOST_LINED} run events wait for {OPENLINEAGE} already")
    values = [
        {
            "id": each.id,
            "webhook_id": OPENLINEAGE_ID,
            "topic": each.place,
            "body": each.body,
            "state": State.WAITING,
            "attempts": 0,
            "line": each.line,
        }
        for each in events
    ]
    await store.put_in_line(session, values)


async def send_test(session: Session, public_url: str, actor: str, webhook_id: str) -> DeliveryItem:
    webhook = await store.find(session, webhook_id, lock=True)
    if webhook is None or webhook.form != store.SUBSCRIBED:
        raise NotFound(f"there is no webhook {webhook_id[:60]}")
    if not webhook.active:
        raise Conflict("this webhook is disabled; make it active first")
    said = {"subject": webhook.id, "because": f"{actor} sends a test", "at": clock.now().isoformat()}
    page = f"/settings/webhooks/{webhook.id}"
    made = _put(session, public_url, webhook, TEST, {**said, "page": page, "event": new_id("evt")})
    await session.flush()
    await session.refresh(made)
    return DeliveryItem.model_validate(made, from_attributes=True)


def _put(session: Session, public_url: str, webhook: Webhook, topic: str, payload: Mapping[str, Any]) -> Delivery:
    delivery = new_id("del")
    body = {
        "id": delivery,
        "event": payload["event"],
        "topic": topic,
        "at": payload["at"],
        "subject": payload["subject"],
        "because": payload["because"],
        "url": f"{public_url.rstrip('/')}{payload['page']}",
    }
    text = json.dumps(body, separators=(",", ":"))
    made = Delivery(id=delivery, webhook_id=webhook.id, topic=topic, body=text, state=State.WAITING, attempts=0)
    session.add(made)
    return made


async def claim(session: Session) -> Sequence[Row]:
    return await store.claim(session, EACH, AT_ONCE, LEASE_S)


async def settle(session: Session, claimed: Row, answer: Answer) -> None:
    """Write down what came of an attempt; a webhook that never listens is disabled and a person asked."""
    webhook = await store.find(session, claimed["webhook_id"], lock=True)
    delivery = await store.find_delivery(session, claimed["id"])
    if webhook is None or delivery is None or delivery.state != State.WAITING:
        return
    judge = weigh if webhook.form == store.SUBSCRIBED else weigh_patiently
    outcome = judge(answer, delivery.attempts, webhook.failures, secrets.randbelow(1001) / 1000)
    delivery.state, delivery.note = outcome.state, outcome.note
    delivery.status, delivery.elapsed_ms = answer.status, answer.elapsed_ms
    delivery.next_at = clock.now() + timedelta(seconds=outcome.delay_s)
    webhook.failures = outcome.failures
    await session.flush()
    if outcome.disable is not None and webhook.active:
        await _disable(session, webhook, outcome.disable)


async def _disable(session: Session, webhook: Webhook, because: str) -> None:
    webhook.active, webhook.because = False, because
    await store.give_up(session, webhook.id, "the webhook was disabled")
    question = f"The webhook {webhook.name} is disabled: {because}. Shall it stay so?"
    await review.ask(session, ACTOR, DISABLED, webhook.id, question, {"webhook": webhook.id, "name": webhook.name})
    await audit.record(session, ACTOR, "webhook.disable", webhook.id, because)


async def tidy(session: Session, now: datetime) -> None:
    await store.tidy(session, now - timedelta(days=KEPT_DAYS), KEPT)


async def list_deliveries(session: Session, webhook_id: str) -> list[DeliveryItem]:
    """Return the newest deliveries of a webhook."""
    found = await store.deliveries(session, webhook_id, SHOWN)
    return [DeliveryItem.model_validate(each, from_attributes=True) for each in found]
