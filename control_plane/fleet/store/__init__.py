"""Rows of devices, classes and tokens."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from control_plane.fleet.models import (
    DeniedKey,
    Device,
    DeviceClass,
    EnrolmentConflict,
    EnrolmentToken,
    Listing,
    Statement,
    Stratum,
)
from control_plane.kit.db import Database, Row, Session, execute, row


async def put_class(session: Session, name: str, values: dict[str, Any]) -> str:
    """Write a class and return its rule for switching; what `values` do not say stays as it is."""
    statement = insert(DeviceClass).values(name=name, **values)
    changed = statement.on_conflict_do_update(index_elements=["name"], set_=values)
    return str(await session.scalar(changed.returning(DeviceClass.safe_state)))


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
    session: Session,
    *,
    site: str | None,
    device_class: str | None,
    running: str | None,
    search: str | None,
    health: str | None,
    waiting: str | None,
    state: str | None,
    after: str | None,
    limit: int,
) -> Sequence[Device]:
    query = select(Device).order_by(Device.id).limit(limit)
    if site is not None:
        query = query.where(Device.site == site)
    if device_class is not None:
        query = query.where(Device.device_class == device_class)
    if running is not None:
        query = query.where((Device.active_content == running) | (Device.active_release == running))
    if state is not None:
        query = query.where(Device.state == state)
    listed = _listed(search, health, waiting)
    if listed:
        query = query.where(Device.id.in_(select(Listing.device_id.collate("default")).where(*listed)))
    if after is not None:
        query = query.where(Device.id > after)
    return (await session.scalars(query)).all()


def _listed(search: str | None, health: str | None, waiting: str | None) -> list[ColumnElement[bool]]:
    """Return what is asked of a device's listing; `search` is the beginning of a serial or an id."""
    found: list[ColumnElement[bool]] = []
    if search:
        high = search + chr(0x10FFFF)
        starts = [(column >= search) & (column < high) for column in (Listing.serial, Listing.device_id)]
        found.append(starts[0] | starts[1])
    if health is not None:
        found.append(Listing.health == health)
    if waiting is not None:
        found.append(Listing.waiting == waiting)
    return found


async def strata(session: Session, device_classes: Sequence[str], sites: Sequence[str] | None) -> Sequence[Any]:
    """Return (site, device_class, devices) of a selection's strata; as many rows as strata, however many devices."""
    query = (
        select(Stratum.site, Stratum.device_class, Stratum.devices)
        .where(Stratum.device_class.in_(device_classes), Stratum.devices > 0)
        .order_by(Stratum.device_class, Stratum.site)
    )
    if sites is not None:
        query = query.where(Stratum.site.in_(sites))
    return (await session.execute(query)).all()


async def members_of(session: Session, wanted: Sequence[tuple[str, str]]) -> Sequence[Any]:
    """Return (id, site, device_class) of every active device of some strata, given as (site, device_class)."""
    query = select(Device.id, Device.site, Device.device_class).where(
        tuple_(Device.device_class, Device.site).in_([(kind, site) for site, kind in wanted]), Device.state == "active"
    )
    return (await session.execute(query)).all()


async def lock_seen(session: Session, device_id: str) -> Row | None:
    """Take a device's row and return what freshness is judged by.

    The transaction need not wait for the disk: a check-in lost with the last milliseconds before a crash is sent again.
    """
    return await row(
        session,
        """select state, key_sha256, boots, last_seq, last_nonce, boot_ends, counter_floor,
               exists (select 1 from fleet_denied_key k where k.key_sha256 = d.key_sha256) as denied,
               set_config('synchronous_commit', 'off', true)
           from fleet_device d where id = :id for update""",
        id=device_id,
    )


async def standing(session: Session, device_id: str) -> Row | None:
    """Return what decides whether a device is heard at all."""
    return await row(
        session,
        """select state, key_sha256,
               exists (select 1 from fleet_denied_key k where k.key_sha256 = d.key_sha256) as denied
           from fleet_device d where id = :id""",
        id=device_id,
    )


async def put_boot_ends(session: Session, device_id: str, ends: str) -> None:
    query = "update fleet_device set boot_ends = cast(:ends as jsonb) where id = :id"
    await execute(session, query, id=device_id, ends=ends)


async def tell(session: Session, device_id: str) -> None:
    """Have every process forget what it knows of a device, once this transaction is committed."""
    await execute(session, "select pg_notify('fleetloop_device', :id)", id=device_id)


async def update_seen(session: Session, device_id: str, values: dict[str, Any]) -> None:
    await execute(
        session,
        """update fleet_device set last_seen_at = now(), boots = cast(:boots as jsonb), last_seq = :last_seq,
               last_nonce = :last_nonce, boot_ends = cast(:boot_ends as jsonb),
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

    Written is what is beyond doubt: an active device goes on in its newest boot with a key that is not denied, its
    sequence number grows, and its counter floor does not lag behind ours. The disk is not waited for, as in
    `lock_seen`.
    """
    found = await database.fetch(
        """update fleet_device d set last_seen_at = now(), last_seq = n.last_seq, last_nonce = n.nonce,
               agent_version = n.agent_version,
               counter_floor = n.counter_floor, active_release = n.active_release, active_content = n.active_content,
               active_counter = n.active_counter, deployment = n.deployment, spool = n.spool,
               platform = coalesce(n.platform, d.platform)
           from jsonb_to_recordset($1::jsonb) as n(id text, key text, boot text, last_seq bigint, nonce text,
               agent_version text, counter_floor integer, active_release text, active_content text,
               active_counter integer, deployment jsonb, spool jsonb, platform jsonb)
           where d.id = n.id and d.state = 'active' and d.key_sha256 = n.key and d.boots ->> 0 = n.boot
               and not exists (select 1 from fleet_denied_key k where k.key_sha256 = d.key_sha256)
               and d.last_seq < n.last_seq
               and d.counter_floor <= n.counter_floor
           returning d.id, set_config('synchronous_commit', 'off', true)""",
        json.dumps(check_ins, ensure_ascii=False),
    )
    return {one["id"] for one in found}


class QuietRow(NamedTuple):
    """A sign of life: `since_seq` is the number that the device's row must still have."""

    id: str
    key_sha256: str
    boot_id: str
    since_seq: int
    seq: int
    nonce: str
    at: float
    spool: str | None
    platform: str | None


async def go_on_quietly(database: Database, rows: Sequence[QuietRow]) -> set[str]:
    """Write the signs of life of devices whose rows are as they were left; return the ids of those.

    The disk is not waited for, as in `lock_seen`.
    """
    found = await database.fetch(
        """update fleet_device d set last_seen_at = greatest(d.last_seen_at, to_timestamp(n.at)), last_seq = n.seq,
               last_nonce = n.nonce, spool = coalesce(n.spool::jsonb, d.spool),
               platform = coalesce(n.platform::jsonb, d.platform)
           from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::float8[],
               $8::text[], $9::text[]) as n(id, key, boot, since, seq, nonce, at, spool, platform)
           where d.id = n.id and d.last_seq = n.since and d.boots ->> 0 = n.boot and d.state = 'active'
               and d.key_sha256 = n.key
               and not exists (select 1 from fleet_denied_key k where k.key_sha256 = n.key)
           returning d.id, set_config('synchronous_commit', 'off', true)""",
        *(list(column) for column in zip(*rows, strict=True)),
    )
    return {one["id"] for one in found}


async def heard_lately(database: Database, after: str, limit: int) -> Sequence[Mapping[str, Any]]:
    """Return active devices in the order of their ids that spoke, or came, within a day."""
    return await database.fetch(
        """select id, device_class, site, key_sha256, boots ->> 0 as boot, last_seq, agent_version, counter_floor,
               active_release, active_content, active_counter, deployment::text as deployment
           from fleet_device d
           where id > $1 and state = 'active' and boots ->> 0 is not null
               and coalesce(last_seen_at, enrolled_at) > now() - interval '1 day'
               and not exists (select 1 from fleet_denied_key k where k.key_sha256 = d.key_sha256)
           order by id limit $2""",
        after,
        limit,
    )


async def raise_seq(session: Session, device_id: str, seq: int, nonce: str) -> None:
    query = """update fleet_device set last_seen_at = now(), last_seq = :seq, last_nonce = :nonce
               where id = :id and last_seq < :seq"""
    await execute(session, query, id=device_id, seq=seq, nonce=nonce)


async def count_token_failure(session: Session, token_hash: str) -> None:
    query = "update fleet_enrolment_token set failures = failures + 1 where hash = :hash and used_by is null"
    await execute(session, query, hash=token_hash)


async def use_token(session: Session, token_hash: str, device_id: str) -> None:
    query = "update fleet_enrolment_token set used_at = now(), used_by = :device where hash = :hash"
    await execute(session, query, hash=token_hash, device=device_id)


async def find_by_key(session: Session, key_sha256: str) -> Device | None:
    return await session.scalar(select(Device).where(Device.key_sha256 == key_sha256))


async def is_denied(session: Session, key_sha256: str) -> bool:
    return await session.get(DeniedKey, key_sha256) is not None


async def deny_key(
    session: Session, key_sha256: str, device_id: str | None, reason: str, since: datetime | None, actor: str
) -> None:
    """Add a key; one that is denied already may be told to be so from an earlier time on."""
    values = {"device_id": device_id, "reason": reason, "compromised_since": since, "denied_by": actor}
    statement = insert(DeniedKey).values(key_sha256=key_sha256, **values)
    earlier = func.least(DeniedKey.compromised_since, statement.excluded.compromised_since)
    await session.execute(
        statement.on_conflict_do_update(index_elements=["key_sha256"], set_={"compromised_since": earlier})
    )


async def list_denied(session: Session) -> Sequence[DeniedKey]:
    return (await session.scalars(select(DeniedKey).order_by(DeniedKey.denied_at.desc()).limit(1000))).all()


async def find_conflict(session: Session, conflict_id: str) -> EnrolmentConflict | None:
    return await session.get(EnrolmentConflict, conflict_id, with_for_update=True)


async def find_conflict_of(session: Session, device_id: str, key_sha256: str) -> EnrolmentConflict | None:
    query = select(EnrolmentConflict).where(
        EnrolmentConflict.device_id == device_id, EnrolmentConflict.key_sha256 == key_sha256
    )
    return await session.scalar(query)


async def list_conflicts(session: Session) -> Sequence[EnrolmentConflict]:
    query = select(EnrolmentConflict).order_by(EnrolmentConflict.asked_at.desc()).limit(500)
    return (await session.scalars(query)).all()


async def insert_statement(session: Session, values: dict[str, Any]) -> bool:
    """Add a statement unless it, or another one of the same name, is there."""
    made = await session.scalar(insert(Statement).values(**values).on_conflict_do_nothing().returning(Statement.sha256))
    return made is not None


async def find_statement_of(session: Session, device_id: str, kind: str, statement_id: str) -> str | None:
    query = select(Statement.sha256).where(
        Statement.device_id == device_id, Statement.kind == kind, Statement.statement_id == statement_id
    )
    return await session.scalar(query)


async def list_statements(session: Session, device_id: str | None, subject: str | None, limit: int) -> Sequence[Row]:
    columns = (Statement.sha256, Statement.device_id, Statement.kind, Statement.subject, Statement.key_sha256)
    query = select(*columns, Statement.received_at).order_by(Statement.received_at.desc()).limit(limit)
    if device_id is not None:
        query = query.where(Statement.device_id == device_id)
    if subject is not None:
        query = query.where(Statement.subject == subject)
    return (await session.execute(query)).mappings().all()


async def statement_body(session: Session, sha256: str) -> bytes | None:
    return await session.scalar(select(Statement.body).where(Statement.sha256 == sha256))


async def unheard(session: Session, device_ids: Sequence[str], before: datetime) -> set[str]:
    """Return those of some devices of which nothing was heard since an instant."""
    query = select(Device.id).where(
        Device.id.in_(device_ids), func.coalesce(Device.last_seen_at, Device.enrolled_at) < before
    )
    return set((await session.scalars(query)).all())


async def label(session: Session, device_id: str, name: str) -> str | None:
    found = await row(
        session, "select labels ->> :name as value from fleet_device where id = :id", id=device_id, name=name
    )
    return found["value"] if found else None


async def count_real(session: Session) -> int:
    found = await row(session, """select count(*) as n from fleet_device where not labels @> '{"simulated": true}'""")
    return int(found["n"]) if found else 0


async def add_simulated(session: Session, numbers: range, classes: Sequence[str], sites: Sequence[str]) -> None:
    """Add made-up devices on the server's side; classes and sites take turns, and no key of theirs exists."""
    await execute(
        session,
        """insert into fleet_device (id, serial, public_key_pem, key_sha256, device_class, site, labels, state,
               agent_version, boots, boot_ends, last_seq, counter_floor, platform, spool)
           select id, id, '', encode(sha256(id::bytea), 'hex'), (cast(:classes as text[]))[1 + n % :class_count],
               (cast(:sites as text[]))[1 + n / :class_count % :site_count], '{"simulated": true}', 'active',
               'simulated', jsonb_build_array('boot-' || id), '{}', 0, 0, '{}', '{}'
           from (select n, 'sim_' || lpad(n::text, 8, '0') as id
                 from generate_series(cast(:first as bigint), cast(:last as bigint)) as n) as made
           on conflict do nothing""",
        classes=list(classes),
        class_count=len(classes),
        sites=list(sites),
        site_count=len(sites),
        first=numbers.start,
        last=numbers.stop - 1,
    )


async def give_keys(
    session: Session, keys: Sequence[tuple[str, str, str]], said: Mapping[str, Any], deployment: str
) -> None:
    """Give devices keys that exist, (id, PEM, sha256), as if they had said the same of themselves before."""
    ids, pems, digests = (list(column) for column in zip(*keys, strict=True))
    await execute(
        session,
        """update fleet_device d set public_key_pem = n.pem, key_sha256 = n.digest, agent_version = :agent_version,
               counter_floor = :counter, active_counter = :counter, active_release = :release,
               active_content = :content, deployment = cast(:deployment as jsonb), last_seq = 0,
               boots = jsonb_build_array('boot-' || d.id), boot_ends = '{}'
           from unnest(cast(:ids as text[]), cast(:pems as text[]), cast(:digests as text[])) as n(id, pem, digest)
           where d.id = n.id""",
        ids=ids,
        pems=pems,
        digests=digests,
        deployment=deployment,
        **said,
    )
    told = "select pg_notify('fleetloop_device', id) from unnest(cast(:ids as text[])) as n(id)"
    await execute(session, told, ids=ids)


async def remove_simulated(session: Session) -> int:
    simulated = """device_id in (select id from fleet_device where labels @> '{"simulated": true}')"""
    for table in ("fleet_certificate", "fleet_statement", "fleet_enrolment_conflict"):
        await execute(session, f"delete from {table} where {simulated}")  # noqa: S608 - tables of this list only
    removed = await execute(session, """delete from fleet_device where labels @> '{"simulated": true}'""")
    await execute(session, "select pg_notify('fleetloop_device', '')")  # all of them: there may be a million
    return removed
