"""Devices as people and other slices see them."""

from collections.abc import Collection, Sequence
from datetime import datetime

from control_plane.audit import service as audit
from control_plane.fleet import store
from control_plane.fleet.domain import OUT_OF_USE, TOLD_QUARANTINED, DeviceState, Health, Member, StratumSize
from control_plane.fleet.models import Device
from control_plane.fleet.schemas import DeviceItem, DevicePatch, FleetLine
from control_plane.fleet.service.enrolment import forget_boots
from control_plane.fleet.store import listing
from control_plane.kit import outbox
from control_plane.kit.db import Session
from control_plane.kit.errors import NotFound
from control_plane.kit.pages import Page, decode_cursor, page_of


async def patch_device(session: Session, actor: str, device_id: str, body: DevicePatch) -> DeviceItem:
    device = await store.find_device(session, device_id, lock=True)
    if device is None:
        raise NotFound(f"there is no device {device_id}")
    if body.state is DeviceState.ACTIVE and device.state == DeviceState.QUARANTINED:
        forget_boots(device)
    device.state = body.state
    await store.tell(session, device_id)
    if body.state is DeviceState.QUARANTINED:
        await outbox.tell(session, TOLD_QUARANTINED, device_id, body.reason, f"/fleet/{device_id}")
    await audit.record(session, actor, f"device.{body.state}", device_id, body.reason)
    return _item(device)


async def get_device(session: Session, device_id: str) -> DeviceItem:
    device = await store.find_device(session, device_id)
    if device is None:
        raise NotFound(f"there is no device {device_id}")
    return _item(device)


async def list_devices(
    session: Session,
    *,
    site: str | None = None,
    device_class: str | None = None,
    running: str | None = None,
    search: str | None = None,
    health: Health | None = None,
    waiting: str | None = None,
    state: DeviceState | None = None,
    after: str | None = None,
    limit: int = 50,
) -> Page[DeviceItem]:
    cursor = decode_cursor(after)
    found = await store.list_devices(
        session,
        site=site,
        device_class=device_class,
        running=running,
        search=search,
        health=health,
        waiting=waiting,
        state=state,
        after=cursor[0] if cursor else None,
        limit=limit + 1,
    )
    return page_of([_item(device) for device in found], limit, lambda item: item.id)


async def strata(session: Session, device_classes: Sequence[str], sites: Sequence[str] | None) -> list[StratumSize]:
    """Return how many active devices a selection has by site and class; it costs the number of strata."""
    return [StratumSize(*found) for found in await store.strata(session, device_classes, sites)]


async def members_of(session: Session, strata: Sequence[tuple[str, str]]) -> list[Member]:
    """Return the active devices of some (site, device_class); it costs their number, so ask for small strata."""
    return [Member(*found) for found in await store.members_of(session, strata)] if strata else []


async def unheard(session: Session, device_ids: Sequence[str], before: datetime) -> set[str]:
    """Return those of some devices of which nothing was heard since an instant."""
    return await store.unheard(session, device_ids, before) if device_ids else set()


async def label(session: Session, device_id: str, name: str) -> str | None:
    """Return the value of one of a device's labels."""
    return await store.label(session, device_id, name)


async def serials(session: Session, device_ids: Collection[str]) -> dict[str, str]:
    """Return the serials of these devices, as far as they are known."""
    return await listing.serials(session, device_ids)


async def running(session: Session, content: str, device_classes: Sequence[str], sites: Sequence[str] | None) -> int:
    """Count the devices in use of a selection that run a content; it costs the number of strata."""
    return await listing.running(session, content, device_classes, sites, [health.value for health in OUT_OF_USE])


async def floors_above(
    session: Session, counter: int, device_classes: Sequence[str], sites: Sequence[str] | None
) -> tuple[int, bool]:
    """Count the active devices of a selection that would refuse a counter, and say whether all of them were counted."""
    found = await listing.floors_above(session, counter, device_classes, sites)
    return min(found, listing.COUNTED_MOST), found <= listing.COUNTED_MOST


async def summary(session: Session) -> list[FleetLine]:
    return [FleetLine.model_validate(line) for line in await listing.summary(session)]


def _item(device: Device) -> DeviceItem:
    return DeviceItem.model_validate(device, from_attributes=True)
