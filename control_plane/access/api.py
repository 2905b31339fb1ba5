"""Tokens and people, for admins."""

from typing import Annotated

from fastapi import Depends, Query

from control_plane.access import service
from control_plane.access.schemas import (
    MAX_REASON,
    Caller,
    PersonCreate,
    PersonItem,
    PersonPatch,
    TokenCreate,
    TokenItem,
    TokenMade,
)
from control_plane.access.service import Passwords
from control_plane.kit.http import AdminCall, Request, ViewerCall, router
from control_plane.kit.roles import MAY

api = router("access", "/tokens")
Why = Annotated[str, Query(max_length=MAX_REASON, description="why; it is kept in the audit trail")]


@api.get("", name="list_tokens")
async def list_tokens(call: AdminCall) -> list[TokenItem]:
    """List who has a token; the tokens themselves are shown only when they are made."""
    return await service.list_tokens(call.session)


@api.post("", status_code=201, name="create_token")
async def create_token(body: TokenCreate, call: AdminCall) -> TokenMade:
    """Make a token with a role for a new name."""
    return await service.create_token(call.session, call.principal.name, body)


@api.delete("/{name}", name="revoke_token")
async def revoke_token(name: str, call: AdminCall, reason: Why = "") -> TokenItem:
    """Revoke a name's token, at once."""
    return await service.revoke_token(call.session, call.principal.name, name, reason)


caller = router("access", "/whoami")


@caller.get("", name="whoami")
async def whoami(call: ViewerCall) -> Caller:
    """Say who calls, by token or session, and what they may do."""
    return Caller(name=call.principal.name, role=call.principal.role, may=sorted(MAY[call.principal.role]))


people = router("access", "/people")


async def _passwords(request: Request) -> Passwords:
    found: Passwords = request.app.state.passwords
    return found


Hashing = Annotated[Passwords, Depends(_passwords)]


@people.get("", name="list_people")
async def list_people(call: AdminCall) -> list[PersonItem]:
    """List who may sign in to the pages."""
    return await service.list_people(call.session)


@people.post("", status_code=201, name="create_person")
async def create_person(body: PersonCreate, call: AdminCall, passwords: Hashing) -> PersonItem:
    """Let a person sign in with a password."""
    return await service.create_person(call.session, passwords, call.principal.name, body)


@people.patch("/{name}", name="patch_person")
async def patch_person(name: str, body: PersonPatch, call: AdminCall, passwords: Hashing) -> PersonItem:
    """Change a person's role or password, or shut them out; their sessions end."""
    return await service.patch_person(call.session, passwords, call.principal.name, name, body)
