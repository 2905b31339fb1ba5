"""Rows of devices, classes and tokens."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from control_plane.fleet.models import Device, DeviceClass, EnrolmentToken
from control_plane.kit.db import Database, Row, Session, execute, row


async def put_class(session: Session, name: str, values: dict[str, Any]) -> None:
    statement = insert(DeviceClass).values(name=name, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


async def list_classes(session: Session) -> Sequence[DeviceClass]:
    return (await session.scalars(select(DeviceClass).order_by(DeviceClass.name))).all()


async def find_class(session: Session, name: str) -> DeviceClass | None:
    return await session.get(DeviceClass, name)


async def lock_enrolment(session: Session) -> None:
    """One enrolment at a time, so that one serial or key asked for twice is one device and not a broken constraint."""
    await execute(session, "select pg_advisory_xact_lock(72003)")


async def find_token(session: Session, token_hash: str) -> EnrolmentToken | None:
    return await session.scalar(select(EnrolmentToken).where(EnrolmentToken.hash == token_hash).with_for_update())


async def find_device(session: Session, device_id: str, *, lock: bool = False) -> Device | None:
    query = select(Device).where(Device.id == device_id)
    return await session.scalar(query.with_for_update() if lock else query)


async def find_by_key_or_serial(session: Session, key_sha256: str, serial: str) -> Sequence[Device]:
    query = select(Device).where((Device.key_sha256 == key_sha256) | (Device.serial == serial))
    return (await session.scalars(query)).all()


async def list_devices(
    session: Session, *, site: str | None, device_class: str | None, after: str | None, limit: int
) -> Sequence[Device]:
    query = select(Device).order_by(Device.id).limit(limit)
    if site is not None:
        query = query.where(Device.site == site)
    if device_class is not None:
        query = query.where(Device.device_class == device_class)
    if after is not None:
        query = query.where(Device.id > after)
    return (await session.scalars(query)).all()


async def members(session: Session, device_classes: Sequence[str], sites: Sequence[str] | None) -> Sequence[Any]:
    """Return (id, site, device_class) of every active device in a selection."""
    query = select(Device.id, Device.site, Device.device_class).where(
        Device.device_class.in_(device_classes), Device.state == "active"
    )
    if sites is not None:
        query = query.where(Device.site.in_(sites))
    return (await session.execute(query)).all()


async def lock_seen(session: Session, device_id: str) -> Row | None:
    """Take a device's row and return what freshness is judged by.

    The transaction need not wait for the disk: a check-in lost with the last milliseconds before a crash is sent again.
    """
    return await row(
        session,
        """select state, boots, last_seq, counter_floor, set_config('synchronous_commit', 'off', true)
           from fleet_device where id = :id for update""",
        id=device_id,
    )


async def update_seen(session: Session, device_id: str, values: dict[str, Any]) -> None:
    await execute(
        session,
        """update fleet_device set last_seen_at = now(), boots = cast(:boots as jsonb), last_seq = :last_seq,
               agent_version = :agent_version, counter_floor = :counter_floor, active_release = :active_release,
               active_content = :active_content, active_counter = :active_counter,
               deployment = cast(:deployment as jsonb), spool = cast(:spool as jsonb),
               platform = coalesce(cast(:platform as jsonb), platform)
           where id = :id""",
        id=device_id,
        **values,
    )


async def go_on(database: Database, check_ins: Sequence[dict[str, Any]]) -> set[str]:
    """Write check-ins of many devices at once; return the ids of those that were written.

    Written is what is beyond doubt: an active device goes on in its newest boot, its sequence number grows, and its
    counter floor does not lag behind ours. The disk is not waited for, as in `lock_seen`.
    """
    found = await database.fetch(
        """update fleet_device d set last_seen_at = now(), last_seq = n.last_seq, agent_version = n.agent_version,
               counter_floor = n.counter_floor, active_release = n.active_release, active_content = n.active_content,
               active_counter = n.active_counter, deployment = n.deployment, spool = n.spool,
               platform = coalesce(n.platform, d.platform)
           from jsonb_to_recordset($1::jsonb) as n(id text, boot text, last_seq bigint, agent_version text,
               counter_floor integer, active_release text, active_content text, active_counter integer,
               deployment jsonb, spool jsonb, platform jsonb)
           where d.id = n.id and d.state = 'active' and d.boots ->> 0 = n.boot and d.last_seq < n.last_seq
               and d.counter_floor <= n.counter_floor
           returning d.id, set_config('synchronous_commit', 'off', true)""",
        json.dumps(check_ins, ensure_ascii=False),
    )
    return {one["id"] for one in found}


async def summary(session: Session) -> Sequence[Any]:
    columns = (Device.device_class, Device.site, Device.active_content)
    query = select(*columns, func.count().label("devices")).group_by(*columns).order_by(*columns)
    return (await session.execute(query)).all()
