"""Devices, classes and enrolment tokens, for people and pipelines."""

from typing import Annotated

from fastapi import Query

from agents.protocol.v1 import Envelope
from control_plane.fleet import service
from control_plane.fleet.domain import DeviceState, Health
from control_plane.fleet.schemas import (
    ConflictDecision,
    ConflictItem,
    DeniedKeyItem,
    DeviceClassItem,
    DeviceClassPut,
    DeviceItem,
    DevicePatch,
    EnrolmentTokenCreate,
    EnrolmentTokenItem,
    FleetLine,
    KeyDeny,
    StatementItem,
)
from control_plane.kit.http import AdminCall, Cursor, Limit, OperatorCall, Response, ViewerCall, WideCall, router
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
    return await call.once(
        body, lambda: service.create_token(call.session, call.principal.name, body, call.context.device_ca)
    )


@api.get("/devices", name="list_devices")
async def list_devices(
    call: WideCall,
    after: Cursor = None,
    limit: Limit = 50,
    site: str | None = None,
    device_class: str | None = None,
    running: str | None = None,
    search: Annotated[str | None, Query(max_length=100, description="the beginning of a serial or an id")] = None,
    health: Health | None = None,
    waiting: Annotated[str | None, Query(max_length=64, description="the reason a device waits for")] = None,
    state: DeviceState | None = None,
) -> Page[DeviceItem]:
    """List devices; `running` is the digest of a content or a release that they say they run."""
    return await service.list_devices(
        call.session,
        site=site,
        device_class=device_class,
        running=running,
        search=search,
        health=health,
        waiting=waiting,
        state=state,
        after=after,
        limit=limit,
    )


@api.get("/devices/summary", name="summarise_devices")
async def summary(call: WideCall) -> list[FleetLine]:
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


@api.get("/denied-keys", name="list_denied_keys")
async def list_denied(call: ViewerCall) -> list[DeniedKeyItem]:
    """List device keys that nobody is heard with any more."""
    return await service.list_denied(call.session)


@api.put("/denied-keys/{key_sha256}", name="deny_device_key")
async def deny_key(key_sha256: str, body: KeyDeny, call: OperatorCall) -> DeniedKeyItem:
    """Deny a device key, from the next request on and for ever."""
    return await service.deny_key(call.session, call.principal.name, key_sha256, body)


@api.get("/enrolment-conflicts", name="list_enrolment_conflicts")
async def list_conflicts(call: ViewerCall) -> list[ConflictItem]:
    """List enrolments of a known serial with another key."""
    return await service.list_conflicts(call.session)


@api.post("/enrolment-conflicts/{conflict_id}/decision", name="decide_enrolment_conflict")
async def decide_conflict(conflict_id: str, body: ConflictDecision, call: OperatorCall) -> ConflictItem:
    """Say whether the new key is the device's from now on."""
    return await service.decide_conflict(call.session, call.principal.name, conflict_id, body)


@api.get("/device-statements", name="list_device_statements")
async def list_statements(
    call: ViewerCall, device_id: str | None = None, subject: str | None = None, limit: Limit = 50
) -> list[StatementItem]:
    """List what devices signed, newest first: install reports by release digest, recordings by sha256."""
    return await service.list_statements(call.session, device_id, subject, limit)


@api.get("/device-statements/{sha256}", name="get_device_statement", response_model=Envelope)
async def get_statement(sha256: str, call: ViewerCall) -> Response:
    """Return a statement as the bytes that the device sent (a DSSE envelope)."""
    return Response(await service.statement(call.session, sha256), media_type="application/json")
