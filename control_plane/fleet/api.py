"""Devices, classes and enrolment tokens, for people and pipelines."""

from control_plane.fleet import service
from control_plane.fleet.schemas import (
    DeviceClassItem,
    DeviceClassPut,
    DeviceItem,
    DevicePatch,
    EnrolmentTokenCreate,
    EnrolmentTokenItem,
    FleetLine,
)
from control_plane.kit.http import AdminCall, Cursor, Limit, OperatorCall, ViewerCall, router
from control_plane.kit.pages import Page

api = router("fleet")


@api.get("/device-classes", name="list_device_classes")
async def list_classes(call: ViewerCall) -> list[DeviceClassItem]:
    """List device classes."""
    return await service.list_classes(call.session)


@api.put("/device-classes/{name}", name="put_device_class")
async def put_class(name: str, body: DeviceClassPut, call: AdminCall) -> DeviceClassItem:
    """Add or change a device class."""
    return await service.put_class(call.session, name, body)


@api.post("/enrolment-tokens", status_code=201, name="create_enrolment_token")
async def create_token(body: EnrolmentTokenCreate, call: OperatorCall) -> EnrolmentTokenItem:
    """Make a single-use token for one device."""
    return await call.once(body, lambda: service.create_token(call.session, call.principal.name, body))


@api.get("/devices", name="list_devices")
async def list_devices(
    call: ViewerCall,
    after: Cursor = None,
    limit: Limit = 50,
    site: str | None = None,
    device_class: str | None = None,
) -> Page[DeviceItem]:
    """List devices."""
    return await service.list_devices(call.session, site=site, device_class=device_class, after=after, limit=limit)


@api.get("/devices/summary", name="summarise_devices")
async def summary(call: ViewerCall) -> list[FleetLine]:
    """Count devices by class, site and running content."""
    return await service.summary(call.session)


@api.get("/devices/{device_id}", name="get_device")
async def get_device(device_id: str, call: ViewerCall) -> DeviceItem:
    """Return one device."""
    return await service.get_device(call.session, device_id)


@api.patch("/devices/{device_id}", name="patch_device")
async def patch_device(device_id: str, body: DevicePatch, call: OperatorCall) -> DeviceItem:
    """Quarantine, retire or readmit a device."""
    return await service.patch_device(call.session, call.principal.name, device_id, body)
