"""Rows of the TUF repository. Only the holder of its lock writes them."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import distinct_on, insert
from sqlalchemy.orm import aliased

from control_plane.kit.db import Session, execute
from control_plane.kit.metrics import Family, Measured, measure
from control_plane.registry.models import Artifact, TrustAlarm, TufMetadata, TufTarget

EXPIRES = Family("fleetloop_trust_expires_timestamp_seconds", "When what a role signed ends (UTC).", ("role",))
ALARMS = Family("fleetloop_trust_alarms", "Alarms about keys and metadata that stand.")


async def measures(session: Session) -> list[Measured]:
    newest_of = """select distinct on (role) role, extract(epoch from expires_at) as value
                   from registry_tuf_metadata order by role, version desc"""
    return [
        await measure(session, EXPIRES, newest_of),
        await measure(session, ALARMS, "select count(*) as value from registry_trust_alarm"),
    ]


async def lock(session: Session) -> None:
    """Let one publisher in at a time, until its transaction ends."""
    await execute(session, "select pg_advisory_xact_lock(hashtextextended('registry:tuf', 0))")


async def newest(session: Session) -> Sequence[Any]:
    """Return (role, version, expires_at, published_at) of the newest metadata of every role."""
    columns = (TufMetadata.role, TufMetadata.version, TufMetadata.expires_at, TufMetadata.published_at)
    query = select(*columns).ext(distinct_on(TufMetadata.role)).order_by(TufMetadata.role, TufMetadata.version.desc())
    return (await session.execute(query)).all()


async def metadata(session: Session, role: str, version: int | None = None) -> bytes | None:
    """Return the bytes of one version, by default the newest."""
    query = select(TufMetadata.data).where(TufMetadata.role == role).order_by(TufMetadata.version.desc()).limit(1)
    return await session.scalar(query if version is None else query.where(TufMetadata.version == version))


async def revision(session: Session) -> int:
    query = select(func.max(TufMetadata.version)).where(TufMetadata.role == "timestamp")
    return int(await session.scalar(query) or 0)


async def insert_metadata(session: Session, values: list[dict[str, Any]]) -> None:
    await session.execute(insert(TufMetadata).values(values))


async def prune(session: Session, before: datetime) -> None:
    """Forget versions whose successor is older than that; roots stay."""
    later = aliased(TufMetadata)
    replaced = (
        select(1)
        .where(later.role == TufMetadata.role, later.version > TufMetadata.version, later.published_at < before)
        .exists()
    )
    await session.execute(delete(TufMetadata).where(TufMetadata.role != "root", replaced))


async def listed(session: Session, roles: Collection[str]) -> Sequence[TufTarget]:
    query = select(TufTarget).where(TufTarget.role.in_(roles), TufTarget.replaced_at.is_(None))
    return (await session.scalars(query.order_by(TufTarget.path).execution_options(populate_existing=True))).all()


async def list_target(session: Session, values: Mapping[str, Any], now: datetime) -> bool:
    """List a file under its path in place of what was there; say whether that changes anything."""
    path, sha256, custom = values["path"], values["sha256"], values["custom"]
    held = await target(session, path)
    if held is not None and held.sha256 == sha256 and held.custom == custom:
        return False
    current = (TufTarget.path == path) & TufTarget.replaced_at.is_(None)
    await session.execute(update(TufTarget).where(current).values(replaced_at=now))
    statement = insert(TufTarget).values(**values, replaced_at=None)
    changes = {"custom": custom, "replaced_at": None}
    await session.execute(statement.on_conflict_do_update(index_elements=["path", "sha256"], set_=changes))
    return True


async def target(session: Session, path: str, sha256: str | None = None) -> TufTarget | None:
    """Return what a path lists, now or with that hash."""
    wanted = TufTarget.replaced_at.is_(None) if sha256 is None else TufTarget.sha256 == sha256
    query = select(TufTarget).where(TufTarget.path == path, wanted)
    return await session.scalar(query.execution_options(populate_existing=True))


async def public_bytes(session: Session, path: str, sha256: str) -> int | None:
    """Return the size of a target file that TUF lists or listed, if it is an artifact."""
    query = select(Artifact.size_bytes).join(TufTarget, TufTarget.sha256 == Artifact.sha256)
    return await session.scalar(query.where(TufTarget.path == path, TufTarget.sha256 == sha256))


async def alarms(session: Session) -> Sequence[TrustAlarm]:
    query = select(TrustAlarm).order_by(TrustAlarm.subject).execution_options(populate_existing=True)
    return (await session.scalars(query)).all()


async def set_alarms(session: Session, found: Mapping[str, str]) -> None:
    """Make these the alarms that stand; one that stood keeps its beginning."""
    await session.execute(delete(TrustAlarm).where(TrustAlarm.subject.not_in(list(found))))
    for subject, because in found.items():
        statement = insert(TrustAlarm).values(subject=subject, because=because)
        await session.execute(statement.on_conflict_do_update(index_elements=["subject"], set_={"because": because}))
