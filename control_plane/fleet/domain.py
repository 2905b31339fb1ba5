"""What may enrol, and which check-ins are believed.

A check-in is fresh if its boot is new or its sequence number is higher than the last one of the same boot.

One device never sends two messages with one number, and of a boot that is over at most one message can still be on its
way (a device has one check-in in flight). So two things prove that two computers share a key: the last number again
with another nonce, and a second new number of a boot that is over. A replayed message repeats its nonce and its number:
whoever replays cannot have a device locked out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

KEPT_BOOTS = 8
LATE_MOST = 1
RENEWABLE = timedelta(days=400)
TOKEN_FAILURES_MOST = 5
ALLOWED_AT_ONCE_S = 10.0
TOLD_QUARANTINED = "device.quarantined"
"""Outbox topic: a device is set apart until a person has looked at it."""


class DeviceState(StrEnum):
    ACTIVE = "active"
    QUARANTINED = "quarantined"
    RETIRED = "retired"


class Freshness(StrEnum):
    FRESH = "fresh"
    REPLAYED = "replayed"
    OLD_BOOT = "old_boot"
    LATE = "late"
    CLONED = "cloned"


class AuthMode(StrEnum):
    """What proves that a request comes from a device."""

    MTLS = "mtls"
    SIGNATURE = "signature"
    EITHER = "either"


class ConflictState(StrEnum):
    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


class Health(StrEnum):
    """One word for how a device does; the worst that is so."""

    OK = "ok"
    UPDATING = "updating"
    REVERTED = "reverted"
    FAILED = "failed"
    SILENT = "silent"
    QUARANTINED = "quarantined"
    RETIRED = "retired"


TROUBLES = (Health.FAILED, Health.REVERTED, Health.SILENT, Health.QUARANTINED)
"""What a person may have to do something about."""
OUT_OF_USE = (Health.QUARANTINED, Health.RETIRED)
SILENT_AFTER = timedelta(minutes=10)
NO_MODEL = "none"
"""Stands for the content of a device that runs no model, where a filter names one."""


class Facet(StrEnum):
    """What devices are counted and filtered by; also the column's name."""

    SITE = "site"
    DEVICE_CLASS = "device_class"
    CONTENT = "content"
    HEALTH = "health"
    WAITING = "waiting"


class Order(StrEnum):
    """What a list of devices may be sorted by; also the column's name."""

    SERIAL = "serial"
    SITE = "site"
    DEVICE_CLASS = "device_class"
    CONTENT = "content"
    HEALTH = "health"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which devices: `search` is the beginning of a serial, `facets` are exact; nothing given is everybody.

    If no serial begins so it is the beginning of an id, which `by_id` says once that is known.
    """

    search: str = ""
    facets: Mapping[Facet, str] = field(default_factory=dict)
    ids: Sequence[str] | None = None
    by_id: bool = False

    def with_facet(self, facet: Facet, value: str) -> "Filter":
        return replace(self, facets={**self.facets, facet: value})

    def without(self, facet: Facet) -> "Filter":
        return replace(self, facets={key: value for key, value in self.facets.items() if key is not facet})


class PlanCell(NamedTuple):
    """How many devices of a stratum run which content and do how."""

    site: str
    device_class: str
    content: str
    health: str
    devices: int


class Plan(NamedTuple):
    """Devices by site; `cells` are of those sites that have most trouble, of how many there are says `sites`."""

    devices: int
    sites: int
    cells: list[PlanCell]


class Place(NamedTuple):
    """A device's place in a sorted list, from which the list goes on."""

    value: str
    serial: str


class Action(StrEnum):
    """What people do to many devices at once."""

    QUARANTINE = "quarantine"
    READMIT = "readmit"
    RETIRE = "retire"
    LABEL = "label"


BECOMES = {
    Action.QUARANTINE: DeviceState.QUARANTINED,
    Action.READMIT: DeviceState.ACTIVE,
    Action.RETIRE: DeviceState.RETIRED,
}
FROM = {
    Action.QUARANTINE: (DeviceState.ACTIVE,),
    Action.READMIT: (DeviceState.QUARANTINED,),
    Action.RETIRE: (DeviceState.ACTIVE, DeviceState.QUARANTINED),
    Action.LABEL: tuple(DeviceState),
}
"""In which states an action changes a device; any other it leaves as it is."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose key signed a request."""

    id: str
    device_class: str
    site: str
    state: DeviceState
    key_sha256: str


@dataclass(frozen=True, slots=True)
class Member:
    """A device as a selection sees it."""

    id: str
    site: str
    device_class: str


class StratumSize(NamedTuple):
    """How many active devices are of one class at one site."""

    site: str
    device_class: str
    devices: int


@dataclass(frozen=True, slots=True)
class Token:
    """An enrolment token as it is stored; None binds nothing."""

    device_class: str
    site: str | None
    serial: str | None
    expires_at: datetime
    used_by: str | None
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard of a device: boots, newest first; the last number and nonce of the newest; where others ended.

    `ends` maps a boot that is over to its last number and how many messages of it came late.
    """

    boots: Sequence[str] = ()
    last_seq: int = -1
    last_nonce: str | None = None
    ends: Mapping[str, Sequence[int]] = field(default_factory=dict)


def freshness(heard: Heard, boot_id: str, seq: int, nonce: str) -> Freshness:
    """Judge a check-in."""
    if boot_id not in heard.boots:
        return Freshness.FRESH
    if boot_id != heard.boots[0]:
        last, late = heard.ends.get(boot_id, (seq, 0))
        if seq <= last:
            return Freshness.OLD_BOOT
        return Freshness.LATE if late < LATE_MOST else Freshness.CLONED
    if seq == heard.last_seq and heard.last_nonce not in (None, nonce):
        return Freshness.CLONED
    return Freshness.FRESH if seq > heard.last_seq else Freshness.REPLAYED


def with_check_in(heard: Heard, boot_id: str, seq: int, nonce: str) -> Heard:
    """Return what is known after a fresh check-in."""
    boots = [boot_id, *(boot for boot in heard.boots if boot != boot_id)][:KEPT_BOOTS]
    ends = {boot: end for boot, end in heard.ends.items() if boot in boots and boot != boot_id}
    if heard.boots and heard.boots[0] != boot_id:
        ends[heard.boots[0]] = (heard.last_seq, 0)
    return Heard(boots, seq, nonce, ends)


def with_late(heard: Heard, boot_id: str, seq: int) -> Heard:
    """Return what is known after a message of a boot that is over."""
    _, late = heard.ends.get(boot_id, (seq, 0))
    return Heard(heard.boots, heard.last_seq, heard.last_nonce, {**heard.ends, boot_id: (seq, late + 1)})


def admitted_at_s(free_at_s: float, rate_per_s: float, now_s: float) -> tuple[float, float]:
    """Use up one request of an allowance of `rate_per_s`, of which ten seconds' worth may come at once.

    `free_at_s`, the time at which the allowance is whole again, is all there is to remember (the generic cell rate
    algorithm). Return its new value, and the seconds until there is a request again, 0 if there was one.
    """
    free_at_s = max(free_at_s, now_s)
    wait_s = free_at_s + 1 / rate_per_s - now_s - ALLOWED_AT_ONCE_S
    return (free_at_s, wait_s) if wait_s > 0 else (free_at_s + 1 / rate_per_s, 0.0)


def why_not(token: Token | None, device_class: str, site: str, serial: str, now: datetime) -> str | None:
    """Return why a token does not let this device in, or None if it does."""
    if token is None:
        return "this enrolment token is unknown"
    if token.used_by is not None:
        return "this enrolment token was used already"
    if token.failures >= TOKEN_FAILURES_MOST:
        return "this enrolment token was tried by too many that it is not for"
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
