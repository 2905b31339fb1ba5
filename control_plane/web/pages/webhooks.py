"""Webhooks, for admins: who is told what, what was delivered, a test at the press of a button."""

from control_plane.kit.errors import Invalid
from control_plane.kit.http import Response
from control_plane.kit.roles import Role
from control_plane.web.edge import FormCall, PageCall, SeeCall, pages
from control_plane.webhooks import service
from control_plane.webhooks.domain import Topic
from control_plane.webhooks.schemas import WebhookMade, WebhookPut

webhooks = pages()


@webhooks.get("/settings/webhooks")
async def show_webhooks(call: SeeCall) -> Response:
    call.principal.must_be(Role.ADMIN)
    found = await service.list_webhooks(call.session)
    return call.show("webhooks.html", found=found, topics=list(Topic), still=True)


@webhooks.post("/settings/webhooks")
async def add_webhook(call: FormCall) -> Response:
    """Make a webhook and show its secret, this once."""
    call.principal.must_be(Role.ADMIN)
    made = await service.create(call.session, call.context.settings, call.principal.name, _body(call), call.reason())
    return await _show(call, made.webhook.id, made)


@webhooks.get("/settings/webhooks/{webhook_id}")
async def show_webhook(webhook_id: str, call: SeeCall) -> Response:
    call.principal.must_be(Role.ADMIN)
    return await _show(call, webhook_id)


@webhooks.post("/settings/webhooks/{webhook_id}")
async def change_webhook(webhook_id: str, call: FormCall) -> Response:
    """Change it, give it another secret, or remove it."""
    call.principal.must_be(Role.ADMIN)
    actor, settings = call.principal.name, call.context.settings
    match call.form.get("action"):
        case "change":
            active = call.form.get("active") == "yes"
            body, why = _body(call), call.reason()
            await service.change(call.session, settings, actor, webhook_id, body, active=active, reason=why)
            return call.back(f"/settings/webhooks/{webhook_id}")
        case "secret":
            made = await service.new_secret(call.session, settings, actor, webhook_id, call.reason())
            return await _show(call, webhook_id, made)
        case "remove":
            await service.remove(call.session, actor, webhook_id, call.reason())
            return call.back("/settings/webhooks")
        case _:
            raise Invalid("a webhook is changed, given another secret, or removed")


@webhooks.post("/settings/webhooks/{webhook_id}/test")
async def test_webhook(webhook_id: str, call: FormCall) -> Response:
    call.principal.must_be(Role.ADMIN)
    public_url = call.context.settings.public_url
    await service.send_test(call.session, public_url, call.principal.name, webhook_id)
    return call.back(f"/settings/webhooks/{webhook_id}#deliveries")


def _body(call: PageCall) -> WebhookPut:
    form = call.form
    topics = [topic for topic in Topic if form.get(f"topic.{topic}")]
    return call.read(WebhookPut, name=form.get("name", "").strip(), url=form.get("url", "").strip(), topics=topics)


async def _show(call: PageCall, webhook_id: str, made: WebhookMade | None = None) -> Response:
    webhook = await service.get(call.session, webhook_id)
    deliveries = await service.list_deliveries(call.session, webhook_id)
    return call.show("webhook.html", webhook=webhook, deliveries=deliveries, made=made, topics=list(Topic), still=True)
