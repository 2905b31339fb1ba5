"""The fleet as the API takes and gives it."""

from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, Field, field_validator

from agents.protocol.v1.safe_state import MAX_CHARS, check
from control_plane.fleet.domain import Action, ConflictState, DeviceState, Health
from control_plane.kit.pages import Schema

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"


class DeviceClassPut(Schema):
    """`safe_state` must hold before a device of this class switches models; left out, it stays as it is."""

    title: str = Field(max_length=200)
    facts: dict[str, Any] = Field(default_factory=dict)
    safe_state: str | None = Field(default=None, max_length=MAX_CHARS)

    @field_validator("safe_state")
    @classmethod
    def _readable(cls, text: str | None) -> str | None:
        return None if text is None else check(text)


class DeviceClassItem(Schema):
    name: str
    title: str
    facts: dict[str, Any]
    safe_state: str


class EnrolmentTokenCreate(Schema):
    """A token lets one device in, once; `site` and `serial` bind it to them."""

    device_class: str = Field(pattern=NAME)
    site: str | None = Field(default=None, pattern=NAME)
    serial: str | None = Field(default=None, max_length=64)
    ttl_s: float = Field(default=3600, gt=0, le=86400)


class EnrolmentTokenItem(Schema):
    """`token` is shown this once."""

    token: str
    device_class: str
    site: str | None
    serial: str | None
    expires_at: datetime
    ca_sha256: str | None = Field(
        default=None, description="fingerprint of the device authority, for the first contact"
    )


class DeviceItem(Schema):
    id: str
    serial: str
    device_class: str
    site: str
    labels: dict[str, Any]
    state: DeviceState
    agent_version: str
    enrolled_at: datetime
    key_sha256: str = ""
    certificate_expires_at: datetime | None = None
    last_seen_at: datetime | None
    counter_floor: int
    active_release: str | None
    active_content: str | None
    active_counter: int | None
    deployment: dict[str, Any] | None
    platform: dict[str, Any]
    spool: dict[str, Any]


class DevicePatch(Schema):
    state: DeviceState
    reason: str = Field(min_length=1, max_length=500)


class KeyDeny(Schema):
    """`compromised_since` says from when on what this key signed is not to be believed."""

    reason: str = Field(min_length=1, max_length=500)
    compromised_since: AwareDatetime | None = None


class DeniedKeyItem(KeyDeny):
    key_sha256: str
    device_id: str | None
    denied_by: str
    denied_at: datetime


class ConflictItem(Schema):
    """Somebody enrolled with the serial of a known device and another key."""

    id: str
    device_id: str
    serial: str
    key_sha256: str
    asked_at: datetime
    state: ConflictState
    decided_by: str | None
    decided_at: datetime | None
    reason: str | None


class ConflictDecision(Schema):
    """Accepting gives the device the new key and denies the old one."""

    accept: bool
    reason: str = Field(min_length=1, max_length=500)


class StatementItem(Schema):
    """One statement that a device signed; its bytes are at `/device-statements/SHA256`."""

    sha256: str
    device_id: str
    kind: str
    subject: str
    key_sha256: str
    received_at: datetime


class FleetLine(Schema):
    """How many devices of a class at a site run which content."""

    device_class: str
    site: str
    active_content: str | None
    devices: int


class ListedDevice(Schema):
    """A device as one line of a list; empty `content` and `waiting` are none."""

    device_id: str
    serial: str
    site: str
    device_class: str
    content: str
    health: Health
    waiting: str
    state: DeviceState
    last_seen_at: datetime | None
    enrolled_at: datetime
    agent_version: str
    phase: str | None
    reason: str | None
    detail: str | None
    active_counter: int | None = None


class ListPage(Schema):
    """`before` and `after` are cursors of the pages on both sides, where there are any."""

    items: list[ListedDevice]
    before: str | None
    after: str | None


class FacetCount(Schema):
    value: str
    devices: int


class FleetCounts(Schema):
    """`total` devices by facet; `whole` is false where a search finds more than are counted."""

    total: int
    whole: bool
    facets: dict[str, list[FacetCount]]


class ViewPut(Schema):
    """`query` is the part of the fleet page's address that says what is shown."""

    name: str = Field(min_length=1, max_length=60)
    query: str = Field(max_length=1000)
    shared: bool = False


class ViewItem(ViewPut):
    id: str
    owner: str


class Named(Schema):
    """A device in a selection; `changes`: whether the action does anything to it."""

    id: str
    serial: str
    site: str
    state: DeviceState
    changes: bool


class Selection(Schema):
    """Exactly which devices an action is about; `seal` is a digest of the action, their ids and states."""

    action: Action
    count: int
    changes: int
    first: list[Named]
    seal: str


class BulkDone(Schema):
    """What became of a bulk action; `id` is its subject in the audit trail."""

    id: str
    action: Action
    asked: int
    changed: int
