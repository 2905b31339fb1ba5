"""The audit trail as the API gives it."""

from datetime import datetime
from typing import Any

from pydantic import Field

from control_plane.kit.pages import Schema
from control_plane.kit.roles import Role


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


class AuditCheck(Schema):
    """`first_break` is the seq of the first entry that does not follow from the one before it."""

    entries: int
    intact: bool
    first_break: int | None


class TokenCreate(Schema):
    """A name for whoever calls, and what it may do."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,99}$")
    role: Role


class TokenItem(Schema):
    name: str
    role: Role
    created_at: datetime
    revoked_at: datetime | None


class TokenMade(TokenCreate):
    """`token` is shown this once."""

    token: str
