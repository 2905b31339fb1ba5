"""Rows of training runs."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.dialects.postgresql import insert

from control_plane.kit.db import Session
from control_plane.training.models import Training


async def insert_training(session: Session, values: dict[str, Any]) -> bool:
    done = await session.execute(insert(Training).values(values).on_conflict_do_nothing().returning(Training.key))
    return done.first() is not None


async def find(session: Session, key: str, *, lock: bool = False) -> Training | None:
    query = select(Training).where(Training.key == key).execution_options(populate_existing=True)
    return await session.scalar(query.with_for_update() if lock else query)


async def list_trainings(session: Session, *, before: str | None, limit: int) -> Sequence[Training]:
    query = select(Training).order_by(Training.created_at.desc(), Training.key.desc()).limit(limit)
    if before is not None:
        at = select(Training.created_at).where(Training.key == before).scalar_subquery()
        query = query.where(tuple_(Training.created_at, Training.key) < tuple_(at, before))
    return (await session.scalars(query)).all()
