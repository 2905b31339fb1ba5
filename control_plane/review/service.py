"""Ask people, take their answers."""

from typing import Any

from control_plane.audit import service as audit
from control_plane.kit import clock, outbox
from control_plane.kit.auth import Principal
from control_plane.kit.db import Session
from control_plane.kit.errors import Conflict, NotFound
from control_plane.kit.ids import new_id
from control_plane.kit.pages import Page, decode_cursor, page_of
from control_plane.review import store
from control_plane.review.domain import Answer, ReviewState, state_of
from control_plane.review.models import Review
from control_plane.review.schemas import ReviewAnswerCreate, ReviewAnswerItem, ReviewItem

CLOSED = "review.closed"
"""Outbox topic: people have answered a question."""

ASKED = "review.asked"
"""Outbox topic: a question waits for people."""

measures = store.measures


async def ask(
    session: Session,
    actor: str,
    kind: str,
    subject: str,
    question: str,
    evidence: dict[str, Any],
    needed: int = 1,
    *,
    bound: bool = False,
) -> str:
    """Put a question unless the same one is open; return its id.

    `bound`: answers are to this very evidence. An open question with other evidence is superseded, and whoever has
    answered it is asked again.
    """
    review = await store.find_open(session, kind, subject)
    if review is not None and bound and review.evidence != evidence:
        review.state, review.closed_at = ReviewState.SUPERSEDED, clock.now()
        await audit.record(session, actor, "review.supersede", subject, "the evidence is another one", review=review.id)
        review = None
    if review is None:
        review = Review(
            id=new_id("rev"),
            kind=kind,
            subject=subject,
            question=question,
            evidence=evidence,
            needed=needed,
            state=ReviewState.OPEN,
            asked_by=actor,
        )
        session.add(review)
        await session.flush()
        await outbox.tell(session, ASKED, review.id, question, "/reviews")
    return review.id


async def answer(session: Session, principal: Principal, review_id: str, body: ReviewAnswerCreate) -> ReviewItem:
    review = await store.find(session, review_id, lock=True)
    if review is None:
        raise NotFound(f"there is no review {review_id}")
    if review.state != ReviewState.OPEN:
        raise Conflict(f"this review is {review.state} already")
    await store.insert_answer(session, review_id, principal.name, body.reason, approves=body.approves)
    given = [Answer(a.actor, a.approves) for a in await store.answers(session, review_id)]
    review.state = state_of(given, review.needed)
    review.closed_at = None if review.state == ReviewState.OPEN else clock.now()
    action = "review.approve" if body.approves else "review.reject"
    await audit.record(session, principal.name, action, review.subject, body.reason, review=review_id)
    if review.state != ReviewState.OPEN:
        await outbox.emit(session, CLOSED, {"kind": review.kind, "subject": review.subject})
    return await _item(session, review)


async def state(session: Session, kind: str, subject: str) -> tuple[ReviewState | None, list[str]]:
    """Return how the latest question of a kind about a subject stands, and who said yes."""
    review = await store.latest(session, kind, subject)
    if review is None:
        return None, []
    given = await store.answers(session, review.id)
    return ReviewState(review.state), [a.actor for a in given if a.approves]


async def get(session: Session, review_id: str) -> ReviewItem:
    review = await store.find(session, review_id)
    if review is None:
        raise NotFound(f"there is no review {review_id}")
    return await _item(session, review)


async def list_reviews(
    session: Session, *, state: ReviewState | None = None, after: str | None = None, limit: int = 50
) -> Page[ReviewItem]:
    cursor = decode_cursor(after)
    found = await store.list_reviews(session, state=state, before=cursor[0] if cursor else None, limit=limit + 1)
    return page_of([await _item(session, review) for review in found], limit, lambda item: item.id)


async def _item(session: Session, review: Review) -> ReviewItem:
    given = await store.answers(session, review.id)
    return ReviewItem(
        id=review.id,
        kind=review.kind,
        subject=review.subject,
        question=review.question,
        evidence=review.evidence,
        needed=review.needed,
        state=ReviewState(review.state),
        asked_by=review.asked_by,
        asked_at=review.asked_at,
        answers=[ReviewAnswerItem.model_validate(a, from_attributes=True) for a in given],
    )
