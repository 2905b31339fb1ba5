"""The fleet as the API takes and gives it."""

from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, Field, field_validator

from agents.protocol.v1.safe_state import MAX_CHARS, check
from control_plane.fleet.domain import ConflictState, DeviceState
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
