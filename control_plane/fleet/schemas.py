"""The fleet as the API takes and gives it."""

from datetime import datetime
from typing import Any

from pydantic import Field

from control_plane.fleet.domain import DeviceState
from control_plane.kit.pages import Schema

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"


class DeviceClassPut(Schema):
    title: str = Field(max_length=200)
    facts: dict[str, Any] = Field(default_factory=dict)


class DeviceClassItem(DeviceClassPut):
    name: str


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


class DeviceItem(Schema):
    id: str
    serial: str
    device_class: str
    site: str
    labels: dict[str, Any]
    state: DeviceState
    agent_version: str
    enrolled_at: datetime
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


class FleetLine(Schema):
    """How many devices of a class at a site run which content."""

    device_class: str
    site: str
    active_content: str | None
    devices: int
