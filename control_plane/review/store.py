"""Rows of questions and answers."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from control_plane.kit.db import Session
from control_plane.kit.metrics import Family, Measured, measure
from control_plane.review.models import Review, ReviewAnswer

OPEN = Family("fleetloop_reviews_open", "Questions that wait for people.", ("kind",))
OLDEST = Family("fleetloop_review_oldest_seconds", "Age of the oldest of them.", ("kind",))


async def measures(session: Session) -> list[Measured]:
    oldest = (
        "select kind, extract(epoch from now() - min(asked_at)) as value from review where state = 'open' group by 1"
    )
    return [
        await measure(session, OPEN, "select kind, count(*) as value from review where state = 'open' group by kind"),
        await measure(session, OLDEST, oldest),
    ]


async def find(session: Session, review_id: str, *, lock: bool = False) -> Review | None:
    query = select(Review).where(Review.id == review_id)
    return await session.scalar(query.with_for_update() if lock else query)


async def find_open(session: Session, kind: str, subject: str) -> Review | None:
    query = select(Review).where(Review.kind == kind, Review.subject == subject, Review.state == "open")
    return await session.scalar(query.limit(1))


async def latest(session: Session, kind: str, subject: str) -> Review | None:
    query = select(Review).where(Review.kind == kind, Review.subject == subject)
    return await session.scalar(query.order_by(Review.id.desc()).limit(1))


async def answers(session: Session, review_id: str) -> Sequence[ReviewAnswer]:
    query = select(ReviewAnswer).where(ReviewAnswer.review_id == review_id).order_by(ReviewAnswer.at)
    return (await session.scalars(query)).all()


async def insert_answer(session: Session, review_id: str, actor: str, reason: str, *, approves: bool) -> None:
    values = {"review_id": review_id, "actor": actor, "approves": approves, "reason": reason}
    await session.execute(insert(ReviewAnswer).values(values).on_conflict_do_nothing())


async def list_reviews(session: Session, *, state: str | None, before: str | None, limit: int) -> Sequence[Review]:
    query = select(Review).order_by(Review.id.desc()).limit(limit)
    if state is not None:
        query = query.where(Review.state == state)
    if before is not None:
        query = query.where(Review.id < before)
    return (await session.scalars(query)).all()
