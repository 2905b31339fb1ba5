"""Questions that wait for people: the queue, one after the other, and how alike ones were answered."""

from typing import Annotated

from fastapi import Query

from control_plane.kit.http import Cursor, Response
from control_plane.kit.roles import Role
from control_plane.review import service
from control_plane.review.domain import ReviewState
from control_plane.review.schemas import ReviewItem
from control_plane.web.edge import SeeCall, pages

SHOWN, LOOKED_AT, ALIKE = 25, 200, 3
STATES = ("open", "approved", "rejected", "superseded", "all")
reviews = pages()


@reviews.get("/reviews")
async def show_reviews(
    call: SeeCall,
    state: Annotated[str, Query(pattern="^(open|approved|rejected|superseded|all)$")] = "open",
    kind: Annotated[str, Query(max_length=40)] = "",
    after: Cursor = None,
) -> Response:
    wanted = None if state == "all" else ReviewState(state)
    page = await service.list_reviews(call.session, state=wanted, after=after, limit=SHOWN)
    closed = [r for r in (await service.list_reviews(call.session, limit=LOOKED_AT)).items if r.state != "open"]
    return call.show(
        "reviews.html",
        found=page,
        cards=[(item, alike(item, closed)) for item in page.items if not kind or item.kind == kind],
        kinds=sorted({item.kind for item in [*page.items, *closed]}),
        kind=kind,
        state=state,
        states=STATES,
        may=call.may(Role.APPROVER),
    )


def alike(item: ReviewItem, closed: list[ReviewItem]) -> list[ReviewItem]:
    """Return the newest answered questions of the same kind, those about the same thing first."""
    same = [r for r in closed if r.kind == item.kind and r.id != item.id]
    return sorted(same, key=lambda r: r.subject.split("/")[0] != item.subject.split("/")[0])[:ALIKE]
