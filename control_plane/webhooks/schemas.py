"""Subscriptions and their deliveries as pages take and give them."""

from datetime import datetime

from pydantic import Field

from control_plane.kit.pages import Schema
from control_plane.webhooks.domain import MAX_URL, State, Topic


class WebhookPut(Schema):
    """Where to send what."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$")
    url: str = Field(max_length=MAX_URL)
    topics: list[Topic] = Field(min_length=1, max_length=len(Topic))


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
