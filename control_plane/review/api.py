"""Questions waiting for people, and their answers."""

from control_plane.kit.http import ApproverCall, Cursor, Limit, ViewerCall, router
from control_plane.kit.pages import Page
from control_plane.review import service
from control_plane.review.domain import ReviewState
from control_plane.review.schemas import ReviewAnswerCreate, ReviewItem

api = router("review", "/reviews")


@api.get("", name="list_reviews")
async def list_reviews(
    call: ViewerCall, after: Cursor = None, limit: Limit = 50, state: ReviewState | None = None
) -> Page[ReviewItem]:
    """List questions, newest first."""
    return await service.list_reviews(call.session, state=state, after=after, limit=limit)


@api.get("/{review_id}", name="get_review")
async def get_review(review_id: str, call: ViewerCall) -> ReviewItem:
    """Return one question with its evidence and answers."""
    return await service.get(call.session, review_id)


@api.post("/{review_id}/answers", status_code=201, name="answer_review")
async def answer_review(review_id: str, body: ReviewAnswerCreate, call: ApproverCall) -> ReviewItem:
    """Say yes or no, with a reason; one no closes the question."""
    return await call.once(body, lambda: service.answer(call.session, call.principal, review_id, body))
