"""Devices, field events, recordings and exposure."""

from typing import Any

from control_plane.client.ask import Ask, Call, Pages, Walk, create, get, put, segment
from control_plane.fleet.schemas import (
    DeviceClassItem,
    DeviceClassPut,
    DeviceItem,
    EnrolmentTokenCreate,
    EnrolmentTokenItem,
    FleetLine,
)
from control_plane.telemetry.schemas import FieldEventItem, Rate, RateLine, RecordingItem


class FleetCalls:
    @Call
    def put_device_class(self, name: str, body: DeviceClassPut) -> Ask[DeviceClassItem]:
        """Make or change a device class."""
        return put(DeviceClassItem, f"/device-classes/{segment(name)}", body)

    @Call
    def list_device_classes(self) -> Ask[list[DeviceClassItem]]:
        """List device classes."""
        return get(list[DeviceClassItem], "/device-classes")

    @Call
    def create_enrolment_token(self, body: EnrolmentTokenCreate, key: str | None = None) -> Ask[EnrolmentTokenItem]:
        """Make a token with which one device may enrol."""
        return create(EnrolmentTokenItem, "/enrolment-tokens", body, key)

    @Walk
    def list_devices(self, /, **query: Any) -> Pages[DeviceItem]:
        """Walk devices; `site=`, `device_class=`, `running=`."""
        return Pages(DeviceItem, "/devices", query)

    @Call
    def get_device(self, device_id: str) -> Ask[DeviceItem]:
        """Return one device."""
        return get(DeviceItem, f"/devices/{segment(device_id)}")

    @Call
    def fleet_summary(self) -> Ask[list[FleetLine]]:
        """Count devices by class, site and content."""
        return get(list[FleetLine], "/devices/summary")

    @Walk
    def list_events(self, /, **query: Any) -> Pages[FieldEventItem]:
        """Walk field events, newest first; `kind=`, `content=`, `since_number=`."""
        return Pages(FieldEventItem, "/events", query)

    @Walk
    def list_recordings(self, /, **query: Any) -> Pages[RecordingItem]:
        """Walk recordings; `state=`, `trigger=`, `since_number=`."""
        return Pages(RecordingItem, "/recordings", query)

    @Call
    def get_recording(self, sha256: str) -> Ask[RecordingItem]:
        """Return one recording's facts."""
        return get(RecordingItem, f"/recordings/{segment(sha256)}")

    @Call
    def exposure(self, content: str | None = None) -> Ask[list[RateLine]]:
        """Sum exposure and events by content, site and class."""
        return get(list[RateLine], "/exposure", content=content)

    @Call
    def rate(self, content: str, model: str) -> Ask[Rate]:
        """Return the rate of incidents of a content, with its interval."""
        return get(Rate, f"/models/{segment(model)}/rate", content=content)
