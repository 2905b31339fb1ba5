"""Webhooks, for admins: who is told what, what was delivered, a test. Pages under /settings use the same service."""

from typing import Annotated

from fastapi import Query

from control_plane.kit.http import AdminCall, router
from control_plane.webhooks import service
from control_plane.webhooks.schemas import (
    MAX_REASON,
    DeliveryItem,
    WebhookCreate,
    WebhookItem,
    WebhookMade,
    WebhookPatch,
    WebhookPut,
    WebhookWhy,
)

api = router("webhooks", "/webhooks")
Why = Annotated[str, Query(max_length=MAX_REASON, description="why; it is kept in the audit trail")]


@api.get("", name="list_webhooks")
async def list_webhooks(call: AdminCall) -> list[WebhookItem]:
    """List all webhooks by name; their secrets are shown only when they are made."""
    return await service.list_webhooks(call.session)


@api.post("", status_code=201, name="create_webhook")
async def create_webhook(body: WebhookCreate, call: AdminCall) -> WebhookMade:
    """Tell an address of some topics from now on; the secret that signs what is sent is shown this once.

    Names are unique, so a repeat is a conflict: an answer that is kept for it would hold the secret.
    """
    settings, actor = call.context.settings, call.principal.name
    return await service.create(call.session, settings, actor, body.plain(), body.reason)


@api.get("/{webhook_id}", name="get_webhook")
async def get_webhook(webhook_id: str, call: AdminCall) -> WebhookItem:
    """Return one webhook."""
    return await service.get(call.session, webhook_id)


@api.patch("/{webhook_id}", name="patch_webhook")
async def patch_webhook(webhook_id: str, body: WebhookPatch, call: AdminCall) -> WebhookItem:
    """Change where it goes or what it hears, disable it, or make it active again; what is left out stays."""
    held = await service.get(call.session, webhook_id)
    kept = {"name": held.name, "url": held.url, "topics": held.topics}
    wanted = WebhookPut.model_validate(kept | body.changes())
    active = held.active if body.active is None else body.active
    settings, actor = call.context.settings, call.principal.name
    return await service.change(call.session, settings, actor, webhook_id, wanted, active=active, reason=body.reason)


@api.post("/{webhook_id}/secret", status_code=201, name="renew_webhook_secret")
async def renew_secret(webhook_id: str, body: WebhookWhy, call: AdminCall) -> WebhookMade:
    """Give it another secret, shown this once; what is sent from now on is signed with it."""
    settings, actor = call.context.settings, call.principal.name
    return await service.new_secret(call.session, settings, actor, webhook_id, body.reason)


@api.post("/{webhook_id}/test", status_code=201, name="test_webhook")
async def test_webhook(webhook_id: str, call: AdminCall) -> DeliveryItem:
    """Have something sent to it; its deliveries say what came of it."""
    return await service.send_test(call.session, call.context.settings.public_url, call.principal.name, webhook_id)


@api.get("/{webhook_id}/deliveries", name="list_webhook_deliveries")
async def list_deliveries(webhook_id: str, call: AdminCall) -> list[DeliveryItem]:
    """List its hundred newest deliveries, newest first."""
    await service.get(call.session, webhook_id)
    return await service.list_deliveries(call.session, webhook_id)


@api.delete("/{webhook_id}", name="delete_webhook")
async def delete_webhook(webhook_id: str, call: AdminCall, reason: Why = "") -> WebhookItem:
    """Forget it, and its deliveries; what was being sent is not held back."""
    held = await service.get(call.session, webhook_id)
    await service.remove(call.session, call.principal.name, webhook_id, reason)
    return held
