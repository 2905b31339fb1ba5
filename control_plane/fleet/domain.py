"""What may enrol, and which check-ins are believed.

A check-in is fresh if its boot is new or its sequence number is higher than the last one of the same boot. A boot that
was over and speaks again is a replay or a clone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

KEPT_BOOTS = 8


class DeviceState(StrEnum):
    ACTIVE = "active"
    QUARANTINED = "quarantined"
    RETIRED = "retired"


class Freshness(StrEnum):
    FRESH = "fresh"
    REPLAYED = "replayed"
    OLD_BOOT = "old_boot"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose key signed a request."""

    id: str
    device_class: str
    site: str
    state: DeviceState


@dataclass(frozen=True, slots=True)
class Member:
    """A device as a selection sees it."""

    id: str
    site: str
    device_class: str


@dataclass(frozen=True, slots=True)
class Token:
    """An enrolment token as it is stored; None binds nothing."""

    device_class: str
    site: str | None
    serial: str | None
    expires_at: datetime
    used_by: str | None


def freshness(boots: Sequence[str], last_seq: int, boot_id: str, seq: int) -> Freshness:
    """Judge a check-in; `boots` are the ids seen, newest first."""
    if not boots or boot_id not in boots:
        return Freshness.FRESH
    if boot_id != boots[0]:
        return Freshness.OLD_BOOT
    return Freshness.FRESH if seq > last_seq else Freshness.REPLAYED


def with_boot(boots: Sequence[str], boot_id: str) -> list[str]:
    """Return the boots with the speaking one first."""
    return [boot_id, *(b for b in boots if b != boot_id)][:KEPT_BOOTS]


def why_not(token: Token | None, device_class: str, site: str, serial: str, now: datetime) -> str | None:
    """Return why a token does not let this device in, or None if it does."""
    if token is None:
        return "this enrolment token is unknown"
    if token.used_by is not None:
        return "this enrolment token was used already"
    if token.expires_at < now:
        return "this enrolment token has expired"
    for name, bound, given in (
        ("device class", token.device_class, device_class),
        ("site", token.site, site),
        ("serial", token.serial, serial),
    ):
        if bound is not None and bound != given:
            return f"this enrolment token is for {name} {bound!r}, not {given!r}"
    return None
