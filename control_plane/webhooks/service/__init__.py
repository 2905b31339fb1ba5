"""Subscriptions, what is to be delivered to them, and sending it."""

from control_plane.webhooks.service.deliveries import (
    LEASE_S,
    claim,
    fan_out,
    line_up,
    list_deliveries,
    send_test,
    settle,
    tidy,
)
from control_plane.webhooks.service.sending import Sender
from control_plane.webhooks.service.signing import sign, verify
from control_plane.webhooks.service.subscriptions import (
    change,
    create,
    get,
    list_webhooks,
    new_secret,
    remove,
    rules_of,
)
from control_plane.webhooks.store import measures

__all__ = [
    "LEASE_S",
    "Sender",
    "change",
    "claim",
    "create",
    "fan_out",
    "get",
    "line_up",
    "list_deliveries",
    "list_webhooks",
    "measures",
    "new_secret",
    "remove",
    "rules_of",
    "send_test",
    "settle",
    "sign",
    "tidy",
    "verify",
]
