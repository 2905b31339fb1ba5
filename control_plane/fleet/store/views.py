"""Saved views."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from control_plane.fleet.models import View
from control_plane.kit.db import Session

LISTED_MOST = 200


async def seen_by(session: Session, owner: str) -> Sequence[View]:
    """Return a person's own views and those that others share, by name."""
    query = select(View).where((View.owner == owner) | View.shared).order_by(View.name, View.owner).limit(LISTED_MOST)
    return (await session.scalars(query)).all()


async def count(session: Session, owner: str) -> int:
    return int(await session.scalar(select(func.count()).where(View.owner == owner)) or 0)


async def find(session: Session, view_id: str) -> View | None:
    return await session.get(View, view_id)


async def put(session: Session, values: dict[str, Any]) -> None:
    """Write a view; one of the same owner and name is replaced."""
    statement = insert(View).values(values)
    changed = {"query": values["query"], "shared": values["shared"]}
    await session.execute(statement.on_conflict_do_update(index_elements=["owner", "name"], set_=changed))


async def remove(session: Session, view: View) -> None:
    await session.delete(view)
