"""Rows of attestations."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from control_plane.kit.db import Session
from control_plane.registry.models import Attestation, Release


async def insert_attestation(session: Session, values: dict[str, Any]) -> bool:
    """Keep an attestation; False if it is there."""
    statement = insert(Attestation).values(values).on_conflict_do_nothing().returning(Attestation.envelope_sha256)
    return (await session.scalar(statement)) is not None


async def about(session: Session, subjects: Collection[str]) -> Sequence[Attestation]:
    """Return everything said about these digests, oldest first."""
    query = select(Attestation).where(Attestation.subject_sha256.in_(list(subjects)))
    return (await session.scalars(query.order_by(Attestation.received_at, Attestation.envelope_sha256))).all()


async def owners(session: Session, subjects: Collection[str], predicate: str) -> dict[str, list[str]]:
    """Return by digest whose keys have signed statements of one kind about it."""
    query = select(Attestation.subject_sha256, Attestation.owners).where(
        Attestation.subject_sha256.in_(list(subjects)), Attestation.predicate_type == predicate
    )
    found: dict[str, set[str]] = {}
    for subject, names in (await session.execute(query)).all():
        found.setdefault(subject, set()).update(names)
    return {subject: sorted(names) for subject, names in found.items()}


async def count_about(session: Session, subject: str) -> int:
    query = select(func.count()).select_from(Attestation).where(Attestation.subject_sha256 == subject)
    return int(await session.scalar(query) or 0)


async def releases_of(session: Session, digest: str) -> Sequence[Release]:
    """Return the releases that a digest names, as release or as content."""
    query = select(Release).where((Release.digest == digest) | (Release.content_digest == digest))
    return (await session.scalars(query.order_by(Release.counter))).all()


async def ways_back(session: Session, digest: str) -> Sequence[Release]:
    return (await session.scalars(select(Release).where(Release.way_back_of == digest))).all()
