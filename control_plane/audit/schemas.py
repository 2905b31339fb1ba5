"""The audit trail as the API gives it."""

from datetime import datetime
from typing import Any

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


class AuditCheck(Schema):
    """`first_break` is the seq of the first entry that does not follow from the one before it."""

    entries: int
    intact: bool
    first_break: int | None
