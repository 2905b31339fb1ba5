"""What an audit entry's hash covers: everything in it and the hash before it (RFC 6962's idea, as a plain chain)."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Entry:
    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    because: str
    details: Mapping[str, Any]
    previous: str
    hash: str


def chain_hash(
    previous: str, at: datetime, actor: str, action: str, subject: str, because: str, details: Mapping[str, Any]
) -> str:
    body = [previous, at.isoformat(), actor, action, subject, because, details]
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def first_break(entries: Iterable[Entry], previous: str = GENESIS) -> int | None:
    """Return the seq of the first entry that does not follow from the one before it, or None."""
    for entry in entries:
        expected = chain_hash(
            previous, entry.at, entry.actor, entry.action, entry.subject, entry.because, entry.details
        )
        if entry.previous != previous or entry.hash != expected:
            return entry.seq
        previous = entry.hash
    return None
