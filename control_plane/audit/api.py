"""Read and check the audit trail."""

from control_plane.audit import service
from control_plane.audit.schemas import AuditCheck, AuditItem, TokenCreate, TokenItem, TokenMade
from control_plane.kit.http import AdminCall, Cursor, Limit, ViewerCall, router
from control_plane.kit.pages import Page

api = router("audit", "/audit")


@api.get("", name="list_audit_entries")
async def list_entries(
    call: ViewerCall, after: Cursor = None, limit: Limit = 50, subject: str | None = None
) -> Page[AuditItem]:
    """List entries, newest first."""
    return await service.list_entries(call.session, after=after, subject=subject, limit=limit)


@api.get("/check", name="check_audit_chain")
async def check(call: ViewerCall) -> AuditCheck:
    """Walk the chain and say whether it is intact."""
    return await service.verify(call.session)


access = router("access", "/tokens")


@access.get("", name="list_tokens")
async def list_tokens(call: AdminCall) -> list[TokenItem]:
    """List who has a token; the tokens themselves are shown only when they are made."""
    return await service.list_tokens(call.session)


@access.post("", status_code=201, name="create_token")
async def create_token(body: TokenCreate, call: AdminCall) -> TokenMade:
    """Make a token with a role for a new name."""
    return await service.create_token(call.session, call.principal.name, body)


@access.delete("/{name}", name="revoke_token")
async def revoke_token(name: str, call: AdminCall) -> TokenItem:
    """Revoke a name's token, at once."""
    return await service.revoke_token(call.session, call.principal.name, name)
