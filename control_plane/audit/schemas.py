"""The audit trail as the API gives it."""

from datetime import datetime
from typing import Any

from pydantic import Field

from control_plane.kit.pages import Schema


class AuditItem(Schema):
    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    because: str
    details: dict[str, Any]
    previous: str
    hash: str


class AuditFilter(Schema):
    """Which entries: `verb` is an action or how it begins (`rollout`), `text` stands anywhere in the reason."""

    actor: str | None = Field(default=None, max_length=200)
    verb: str | None = Field(default=None, max_length=100)
    subject: str | None = Field(default=None, max_length=200)
    text: str | None = Field(default=None, max_length=200)
    since: datetime | None = None
    until: datetime | None = None


class AuditCheck(Schema):
    """`first_break` is the seq of the first entry that does not follow from the one before it."""

    entries: int
    intact: bool
    first_break: int | None
