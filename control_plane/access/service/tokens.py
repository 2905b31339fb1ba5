"""API tokens: made once shown once, revoked at once."""

from control_plane.access import store
from control_plane.access.schemas import TokenCreate, TokenItem, TokenMade
from control_plane.audit import service as audit
from control_plane.kit import auth
from control_plane.kit.db import Session
from control_plane.kit.errors import Conflict, NotFound


async def create_token(session: Session, actor: str, body: TokenCreate) -> TokenMade:
    await store.lock_names(session)
    if await store.find_person(session, body.name) is not None:
        raise Conflict(f"{body.name!r} is the name of a person")
    token = await auth.create_token(session, body.name, body.role)
    await audit.record(session, actor, "token.create", body.name, body.reason, role=body.role)
    return TokenMade(name=body.name, role=body.role, token=token)


async def revoke_token(session: Session, actor: str, name: str, reason: str = "") -> TokenItem:
    """Revoke a token; sessions that were begun with it are over with it."""
    if not await auth.revoke_token(session, name):
        raise NotFound(f"there is no token called {name!r} that is still good")
    await store.end_sessions(session, name)
    await audit.record(session, actor, "token.revoke", name, reason)
    return next(item for item in await list_tokens(session) if item.name == name)


async def list_tokens(session: Session) -> list[TokenItem]:
    return [TokenItem.model_validate(dict(found)) for found in await auth.list_tokens(session)]
