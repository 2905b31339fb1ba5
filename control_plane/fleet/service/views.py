"""Views of the fleet that people saved: their own, and those that are shared."""

from control_plane.fleet.models import View
from control_plane.fleet.schemas import ViewItem, ViewPut
from control_plane.fleet.store import views as store
from control_plane.kit.auth import Principal
from control_plane.kit.db import Session
from control_plane.kit.errors import Forbidden, NotFound, Refused
from control_plane.kit.ids import new_id
from control_plane.kit.roles import MAY, Role

VIEWS_MOST = 50


async def list_views(session: Session, who: Principal) -> list[ViewItem]:
    return [_item(view) for view in await store.seen_by(session, who.name)]


async def save_view(session: Session, who: Principal, body: ViewPut) -> None:
    """Keep a view under a name of its owner's; the same name again replaces it.

    Raises:
        Forbidden: only operators share views. Refused: the person has too many.
    """
    if body.shared:
        who.must_be(Role.OPERATOR)
    if await store.count(session, who.name) >= VIEWS_MOST:
        raise Refused(f"you have {VIEWS_MOST} views already; remove one first", code="too_many_views")
    await store.put(session, {"id": new_id("view"), "owner": who.name, **body.model_dump()})


async def remove_view(session: Session, who: Principal, view_id: str) -> None:
    view = await store.find(session, view_id)
    if view is None or not (view.shared or view.owner == who.name):
        raise NotFound("there is no such view")
    if view.owner != who.name and Role.ADMIN not in MAY[who.role]:
        raise Forbidden(f"this view is {view.owner}'s; only they or an admin may remove it")
    await store.remove(session, view)


def _item(view: View) -> ViewItem:
    return ViewItem(id=view.id, owner=view.owner, name=view.name, query=view.query, shared=view.shared)
