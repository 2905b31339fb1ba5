"""Rows of models, versions and releases."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Text, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY, insert

from control_plane.kit.db import Session, execute
from control_plane.registry.models import Artifact, Model, ModelVersion, Release


async def put_model(session: Session, name: str, values: dict[str, Any]) -> None:
    statement = insert(Model).values(name=name, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


async def find_model(session: Session, name: str) -> Model | None:
    return await session.scalar(select(Model).where(Model.name == name).execution_options(populate_existing=True))


async def list_models(session: Session) -> Sequence[Model]:
    return (await session.scalars(select(Model).order_by(Model.name))).all()


async def lock_model(session: Session, name: str) -> None:
    await execute(session, "select pg_advisory_xact_lock(hashtextextended('model:' || :name, 0))", name=name)


async def find_version(session: Session, content_digest: str) -> ModelVersion | None:
    query = select(ModelVersion).where(ModelVersion.content_digest == content_digest)
    return await session.scalar(query.limit(1))


async def next_version(session: Session, model: str) -> int:
    query = select(func.coalesce(func.max(ModelVersion.version), 0)).where(ModelVersion.model == model)
    return int(await session.scalar(query) or 0) + 1


async def list_versions(session: Session, model: str) -> Sequence[ModelVersion]:
    query = select(ModelVersion).where(ModelVersion.model == model).order_by(ModelVersion.version.desc())
    return (await session.scalars(query)).all()


async def contents(session: Session, model: str) -> frozenset[str]:
    query = select(ModelVersion.content_digest).where(ModelVersion.model == model)
    return frozenset((await session.scalars(query)).all())


async def put_artifacts(session: Session, values: list[dict[str, Any]]) -> None:
    await session.execute(insert(Artifact).values(values).on_conflict_do_nothing())


async def find_artifact(session: Session, sha256: str) -> Artifact | None:
    return await session.get(Artifact, sha256)


async def next_counter(session: Session, model: str) -> int:
    query = select(func.coalesce(func.max(Release.counter), 0)).where(Release.model == model)
    return int(await session.scalar(query) or 0) + 1


async def highest_counter(session: Session, device_classes: Sequence[str]) -> int:
    classes = cast(list(device_classes), ARRAY(Text))
    query = select(func.max(Release.counter)).where(func.jsonb_exists_any(Release.device_classes, classes))
    return int(await session.scalar(query) or 0)


async def find_release(session: Session, digest: str) -> Release | None:
    return await session.get(Release, digest)


async def list_releases(session: Session, model: str | None) -> Sequence[Release]:
    query = select(Release).order_by(Release.created_at.desc())
    return (await session.scalars(query if model is None else query.where(Release.model == model))).all()


async def later_releases(session: Session, digest: str) -> Sequence[Release]:
    first = select(Release.model, Release.content_digest, Release.counter).where(Release.digest == digest).subquery()
    query = select(Release).join(
        first,
        (Release.model == first.c.model)
        & (Release.content_digest == first.c.content_digest)
        & (Release.counter >= first.c.counter),
    )
    return (await session.scalars(query.order_by(Release.counter))).all()
