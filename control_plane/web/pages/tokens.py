"""API tokens, for admins: who has one, a new one shown once, an old one revoked."""

from control_plane.access import service as access
from control_plane.access.schemas import TokenCreate, TokenMade
from control_plane.kit.http import Response
from control_plane.kit.roles import Role
from control_plane.web.edge import FormCall, PageCall, SeeCall, pages

tokens = pages()


@tokens.get("/settings/tokens")
async def show_tokens(call: SeeCall) -> Response:
    call.principal.must_be(Role.ADMIN)
    return await _show(call)


@tokens.post("/settings/tokens")
async def make_token(call: FormCall) -> Response:
    """Make a token and show it in the answer, the only time that it is there to be read."""
    call.principal.must_be(Role.ADMIN)
    form = call.form
    body = call.read(TokenCreate, name=form.get("name", "").strip(), role=form.get("role"), reason=call.reason())
    return await _show(call, await access.create_token(call.session, call.principal.name, body))


@tokens.post("/settings/tokens/{name}/revoke")
async def revoke_token(name: str, call: FormCall) -> Response:
    call.principal.must_be(Role.ADMIN)
    await access.revoke_token(call.session, call.principal.name, name, call.reason())
    return call.back("/settings/tokens")


async def _show(call: PageCall, made: TokenMade | None = None) -> Response:
    found = await access.list_tokens(call.session)
    good = [item for item in found if item.revoked_at is None]
    return call.show("tokens.html", good=good, over=len(found) - len(good), made=made, roles=list(Role), still=True)
