"""Rows of dataset versions."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from control_plane.datasets.models import DatasetVersion
from control_plane.kit.db import Session


async def insert_version(session: Session, values: dict[str, Any]) -> bool:
    done = await session.execute(
        insert(DatasetVersion).values(values).on_conflict_do_nothing().returning(DatasetVersion.digest)
    )
    return done.first() is not None


async def find(session: Session, digest: str) -> DatasetVersion | None:
    return await session.get(DatasetVersion, digest)


async def list_versions(session: Session, *, skip: int, limit: int) -> Sequence[DatasetVersion]:
    query = select(DatasetVersion).order_by(DatasetVersion.created_at.desc(), DatasetVersion.digest)
    return (await session.scalars(query.offset(skip).limit(limit))).all()


async def names_of(session: Session, digests: Collection[str]) -> dict[str, str]:
    """Return names by digest, of those that are there."""
    query = select(DatasetVersion.digest, DatasetVersion.name).where(DatasetVersion.digest.in_(list(digests)))
    return {str(digest): str(name) for digest, name in (await session.execute(query)).all()}
