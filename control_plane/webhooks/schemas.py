"""Subscriptions and their deliveries as API and pages take and give them."""

from datetime import datetime
from typing import Any

from pydantic import Field

from control_plane.kit.pages import Schema
from control_plane.webhooks.domain import MAX_URL, State, Topic

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$"
MAX_REASON = 500


class WebhookPut(Schema):
    """Where to send what."""

    name: str = Field(pattern=NAME)
    url: str = Field(max_length=MAX_URL)
    topics: list[Topic] = Field(min_length=1, max_length=len(Topic))


class WebhookCreate(WebhookPut):
    """A webhook, and why it is made."""

    reason: str = Field(default="", max_length=MAX_REASON)

    def plain(self) -> WebhookPut:
        return WebhookPut(name=self.name, url=self.url, topics=self.topics)


class WebhookWhy(Schema):
    """Why something is done; it is kept in the audit trail."""

    reason: str = Field(min_length=1, max_length=MAX_REASON)


class WebhookPatch(WebhookWhy):
    """What changes; null stays as it is."""

    name: str | None = Field(default=None, pattern=NAME)
    url: str | None = Field(default=None, max_length=MAX_URL)
    topics: list[Topic] | None = Field(default=None, min_length=1, max_length=len(Topic))
    active: bool | None = None

    def changes(self) -> dict[str, Any]:
        """Return what a subscription is to have instead."""
        said = {"name": self.name, "url": self.url, "topics": self.topics}
        return {name: value for name, value in said.items() if value is not None}


class WebhookItem(Schema):
    """`failures`: attempts that failed in a row; `because`: why it is not active."""

    id: str
    name: str
    url: str
    topics: list[str]
    active: bool
    failures: int
    because: str
    created_by: str
    created_at: datetime


class WebhookMade(Schema):
    """`secret` is shown this once."""

    webhook: WebhookItem
    secret: str


class DeliveryItem(Schema):
    """`status` is null where there was no answer; `note` says what went wrong."""

    id: str
    topic: str
    state: State
    attempts: int
    status: int | None
    note: str
    elapsed_ms: int | None
    created_at: datetime
    next_at: datetime
