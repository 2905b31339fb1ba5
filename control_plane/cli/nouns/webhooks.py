"""`fleetloop webhooks`: who is told what, and what was delivered."""

from typing import Annotated

import typer

from control_plane.cli import completion
from control_plane.cli.answers import Answer, Change, Items, One
from control_plane.cli.bodies import read_body
from control_plane.cli.command import Noun, Verb
from control_plane.cli.connection import client
from control_plane.cli.nouns import views
from control_plane.client import Calls
from control_plane.webhooks.domain import Topic
from control_plane.webhooks.schemas import WebhookCreate, WebhookPatch, WebhookWhy

webhooks = typer.Typer(cls=Noun, help="Webhooks: who outside is told of what; for admins.")
Webhook = Annotated[str, typer.Argument(help="the webhook's id", autocompletion=completion.webhooks)]
Reason = Annotated[str, typer.Option(help="why; it is kept in the audit trail")]
Topics = Annotated[list[Topic] | None, typer.Option("--topic", help="hear of this; may be given several times")]


@Verb(webhooks)("list")
def list_webhooks() -> Answer:
    """List webhooks, without their secrets.

    For example: fleetloop webhooks list -o wide
    """
    return Items(client("admin").list_webhooks(), views.WEBHOOK)


@Verb(webhooks)("get", watched=True)
def get_webhook(webhook: Webhook) -> Answer:
    """Show one webhook: where it goes, what it hears, and why it is not active.

    For example: fleetloop webhooks get hook_01
    """
    return One(client("admin").get_webhook(webhook), views.WEBHOOK)


@Verb(webhooks)("create", changes=True)
def create_webhook(
    name: Annotated[str, typer.Argument(help="a name of your own")],
    address: Annotated[str, typer.Option("--to", help="where to send it, https://...")],
    topic: Topics = None,
    reason: Reason = "made on the command line",
) -> Answer:
    """Tell an address of some topics, or of all; the secret that signs what is sent is shown this once.

    For example: fleetloop webhooks create pager --to https://pager.example/hook --topic rollout.halted
    """
    body = read_body(WebhookCreate, name=name, url=address, topics=topic or list(Topic), reason=reason)
    return Change("admin", [Calls.create_webhook.ask(body)], views.WEBHOOK_MADE)


@Verb(webhooks)("change", changes=True)
def change_webhook(
    webhook: Webhook,
    reason: Reason,
    name: Annotated[str | None, typer.Option(help="another name")] = None,
    address: Annotated[str | None, typer.Option("--to", help="another address")] = None,
    topic: Topics = None,
    active: Annotated[bool | None, typer.Option("--enable/--disable", help="send to it again, or no more")] = None,
) -> Answer:
    """Change where a webhook goes or what it hears, or disable it; what is not named stays.

    For example: fleetloop webhooks change hook_01 --enable --reason "the receiver is mended"
    """
    said = {"name": name, "url": address, "topics": topic or None, "active": active}
    body = read_body(WebhookPatch, reason=reason, **said)
    return Change("admin", [Calls.patch_webhook.ask(webhook, body)], views.WEBHOOK)


@Verb(webhooks)("secret", changes=True)
def renew_secret(webhook: Webhook, reason: Reason) -> Answer:
    """Give a webhook another secret, shown this once; what is sent from now on is signed with it.

    For example: fleetloop webhooks secret hook_01 --reason "the old one was in a chat"
    """
    ask = Calls.renew_webhook_secret.ask(webhook, read_body(WebhookWhy, reason=reason))
    return Change("admin", [ask], views.WEBHOOK_MADE)


@Verb(webhooks)("test", changes=True)
def test_webhook(webhook: Webhook) -> Answer:
    """Have something sent to a webhook; its deliveries say what came of it.

    For example: fleetloop webhooks test hook_01
    """
    return Change("admin", [Calls.test_webhook.ask(webhook)], views.DELIVERY)


@Verb(webhooks)("deliveries", watched=True)
def list_deliveries(webhook: Webhook) -> Answer:
    """List a webhook's newest deliveries and what came of each.

    For example: fleetloop webhooks deliveries hook_01 --watch
    """
    return Items(client("admin").webhook_deliveries(webhook), views.DELIVERY)


@Verb(webhooks)("delete", changes=True)
def delete_webhook(webhook: Webhook, reason: Reason = "deleted on the command line") -> Answer:
    """Forget a webhook and its deliveries.

    For example: fleetloop webhooks delete hook_01
    """
    return Change("admin", [Calls.delete_webhook.ask(webhook, reason)], done=f"webhook {webhook} is gone")
