"""Who is told what, kept by admins; every change says why."""

from typing import Any
from urllib.parse import urlsplit

from control_plane.audit import service as audit
from control_plane.kit.db import Session
from control_plane.kit.errors import Conflict, Invalid, NotFound
from control_plane.kit.ids import new_id
from control_plane.kit.settings import Settings
from control_plane.kit.signing import load_secret
from control_plane.webhooks import store
from control_plane.webhooks.domain import Rules, read_url
from control_plane.webhooks.models import Webhook
from control_plane.webhooks.schemas import WebhookItem, WebhookMade, WebhookPut
from control_plane.webhooks.service.signing import secret_of

MOST_WEBHOOKS = 100


def rules_of(settings: Settings) -> Rules:
    """Return where webhooks of this installation may go.

    Raises:
        Invalid: a network in the settings is none.
    """
    try:
        return Rules.read(settings.webhook_networks, http_loopback=settings.webhook_http)
    except ValueError as error:
        raise Invalid(f"FLEETLOOP_WEBHOOK_NETWORKS: {error}") from error


def secret_for(settings: Settings, webhook: Webhook) -> str:
    return secret_of(load_secret(settings.keys, "webhook.secret"), webhook.id, webhook.epoch)


async def create(session: Session, settings: Settings, actor: str, body: WebhookPut, reason: str) -> WebhookMade:
    read_url(body.url, rules_of(settings))
    if await store.find_named(session, body.name) is not None:
        raise Conflict(f"there is a webhook called {body.name!r} already")
    if await store.count(session) >= MOST_WEBHOOKS:
        raise Conflict(f"there are {MOST_WEBHOOKS} webhooks already")
    topics = [str(topic) for topic in body.topics]
    webhook = Webhook(id=new_id("hook"), name=body.name, url=body.url, topics=topics, epoch=1, created_by=actor)
    session.add(webhook)
    await session.flush()
    await session.refresh(webhook)
    await audit.record(session, actor, "webhook.create", webhook.id, reason, **_said(body))
    return WebhookMade(webhook=_item(webhook), secret=secret_for(settings, webhook))


async def change(
    session: Session, settings: Settings, actor: str, webhook_id: str, body: WebhookPut, *, active: bool, reason: str
) -> WebhookItem:
    """Change where it goes and what it hears; made active again, its failures are forgotten."""
    read_url(body.url, rules_of(settings))
    webhook = await _find(session, webhook_id)
    other = await store.find_named(session, body.name)
    if other is not None and other.id != webhook_id:
        raise Conflict(f"there is a webhook called {body.name!r} already")
    webhook.name, webhook.url, webhook.topics = body.name, body.url, [str(topic) for topic in body.topics]
    if active and not webhook.active:
        webhook.failures, webhook.because = 0, ""
    if webhook.active and not active:
        webhook.because = f"disabled by {actor}: {reason}"
        await store.give_up(session, webhook_id, "the webhook was disabled")
    webhook.active = active
    await session.flush()
    await audit.record(session, actor, "webhook.change", webhook_id, reason, **_said(body), active=active)
    return _item(webhook)


async def new_secret(session: Session, settings: Settings, actor: str, webhook_id: str, reason: str) -> WebhookMade:
    """Give a webhook another secret; what is sent from now on is signed with it."""
    webhook = await _find(session, webhook_id)
    webhook.epoch += 1
    await session.flush()
    await audit.record(session, actor, "webhook.secret", webhook_id, reason, epoch=webhook.epoch)
    return WebhookMade(webhook=_item(webhook), secret=secret_for(settings, webhook))


async def remove(session: Session, actor: str, webhook_id: str, reason: str) -> None:
    webhook = await _find(session, webhook_id)
    await store.forget(session, webhook_id)
    await audit.record(session, actor, "webhook.remove", webhook_id, reason, name=webhook.name)


async def get(session: Session, webhook_id: str) -> WebhookItem:
    return _item(await _find(session, webhook_id))


async def list_webhooks(session: Session) -> list[WebhookItem]:
    return [_item(webhook) for webhook in await store.list_webhooks(session, MOST_WEBHOOKS)]


def _said(body: WebhookPut) -> dict[str, Any]:
    """Return what everybody who reads the audit trail may know: of a URL its host, for the rest is often a password."""
    parts = urlsplit(body.url)
    return {"name": body.name, "host": parts.netloc, "topics": [str(topic) for topic in body.topics]}


async def _find(session: Session, webhook_id: str) -> Webhook:
    webhook = await store.find(session, webhook_id, lock=True)
    if webhook is None or webhook.form != store.SUBSCRIBED:
        raise NotFound(f"there is no webhook {webhook_id[:60]}")
    return webhook


def _item(webhook: Webhook) -> WebhookItem:
    return WebhookItem.model_validate(webhook, from_attributes=True)
